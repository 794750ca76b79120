"""Help: every algorithm has an icon, a page with its picture and texts, every parameter says what it is."""

from __future__ import annotations

import collections
import re
from pathlib import Path

import pytest
from helpers_docs import sections, text_of

from helpers_qgis import ROOT

ICONS = ROOT / "malice_qgis" / "icons"
#: Where the pages are that the button Help opens; the address of the project's source.
PAGES = "https://github.com/malice-qgis/malice-qgis/blob/main/"


def test_every_algorithm_is_offered(provider: object) -> None:
    """Modules of algorithms are those with texts of their own; what a merge leaves out would be missed by nobody."""
    folder = ROOT / "malice_qgis" / "algorithms"
    sources = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    modules = {name for name, text in sources.items() if "def shortHelpString(" in text}
    assert modules == {algorithm.name() for algorithm in provider.algorithms()}
    assert {"setup", "models", "inspect", "embed", "sample"} <= modules


def test_the_set_up_alone_needs_no_engine(provider: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", "/nowhere/python")
    ready = {algorithm.name() for algorithm in provider.algorithms() if algorithm.canExecute()[0]}
    assert ready == {"setup"} == {one.name() for one in provider.algorithms() if not one.NEEDS_ENGINE}


def test_every_algorithm_explains_itself(provider: object) -> None:
    lacking = []
    for algorithm in provider.algorithms():
        name = algorithm.name()
        for what, told in (
            ("name", algorithm.displayName()),
            ("short description", algorithm.shortDescription()),
            ("help", algorithm.shortHelpString()),
            ("tags", "".join(algorithm.tags())),
        ):
            lacking += [] if told.strip() else [f"{name}: {what}"]
        for definition in algorithm.parameterDefinitions():
            lacking += [] if definition.description().strip() else [f"{name} {definition.name()}: label"]
            lacking += [] if definition.help().strip() else [f"{name} {definition.name()}: help"]
    assert lacking == []


def test_every_algorithm_has_an_icon_of_its_own(provider: object) -> None:
    shown = [Path(algorithm.svgIconPath()) for algorithm in provider.algorithms()]
    assert [path.stem for path in shown] == [algorithm.name() for algorithm in provider.algorithms()]
    assert all(not algorithm.icon().isNull() for algorithm in provider.algorithms())
    assert not provider.icon().isNull()


@pytest.mark.parametrize("path", sorted(ICONS.glob("*.svg")), ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [16, 64])
def test_icons_can_be_seen_on_light_and_dark(qgis_app: object, path: Path, size: int) -> None:
    """Drawn by Qt: of the area enough is covered, and what is covered differs from white and from a dark theme."""
    from qgis.PyQt.QtCore import Qt
    from qgis.PyQt.QtGui import QColor, QIcon, QImage

    image = QIcon(str(path)).pixmap(size, size).toImage().convertToFormat(QImage.Format.Format_ARGB32)
    assert (image.width(), image.height()) == (size, size)
    colours = [image.pixelColor(x, y) for x in range(size) for y in range(size)]
    solid = [colour for colour in colours if colour.alpha() > 200]
    assert 0.15 < len(solid) / size**2 < 0.9
    for ground in (Qt.GlobalColor.white, Qt.GlobalColor.black):
        other = QColor(ground)
        distance = [
            abs(colour.red() - other.red()) + abs(colour.green() - other.green()) + abs(colour.blue() - other.blue())
            for colour in solid
        ]
        assert sum(d > 150 for d in distance) > 0.9 * len(solid)


def test_every_algorithm_has_a_page_with_its_picture(provider: object) -> None:
    """Of a page that several share, Help opens a heading of the algorithm's own, with its picture under it."""
    addresses = [algorithm.helpUrl() for algorithm in provider.algorithms()]
    assert len(set(addresses)) == len(addresses)
    pages = collections.Counter(address.partition("#")[0] for address in addresses)
    lacking = []
    for algorithm in provider.algorithms():
        address, _, anchor = algorithm.helpUrl().partition("#")
        assert address.startswith(PAGES), address
        page = ROOT / address.removeprefix(PAGES)
        if not page.is_file() or (not anchor and pages[address] > 1):
            lacking.append(f"{algorithm.name()}: {address} is no page, or that of several without a heading of its own")
            continue
        text = sections(page).get(anchor, "") if anchor else text_of(page)
        if f"`{algorithm.id()}`" not in text or not re.search(rf"!\[[^\]]+\]\(qgis/{algorithm.name()}\.png\)", text):
            lacking.append(f"{algorithm.name()}: no `{algorithm.id()}` or no picture of it at {algorithm.helpUrl()}")
    assert lacking == []
