"""The dialog of ``malice:embed``: what it asks for depends on the model; which model that is, what its card says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from malice_qgis import models
from malice_qgis.algorithms.parameters import HOLES, SURROUNDINGS
from processing.gui.AlgorithmDialog import AlgorithmDialog
from qgis.core import QgsProcessingContext
from qgis.gui import QgsFileWidget, QgsGui, QgsProcessingGui
from qgis.PyQt.QtWidgets import QComboBox, QGroupBox, QLineEdit, QToolButton

DEFAULTS = """
import json, sys
from types import SimpleNamespace
from malice_core import models
from malice_core.errors import ModelError
def default(stored):
    models.installed = lambda: [
        SimpleNamespace(name=name, tags=tags, surroundings={} if "aux" in name else None) for name, tags in stored
    ]
    try:
        return models.default().name
    except ModelError:
        return None
json.dump([default(stored) for stored in json.load(sys.stdin)], sys.stdout)
"""


def test_without_a_name_the_engines_choice_is_meant(engine_python: str, qgis_app: object) -> None:
    demo: list[str] = ["demo"]
    stores = [
        [],
        [["sim", demo]],
        [["a", []]],
        [["a", []], ["sim", demo]],
        [["a", []], ["b", []]],
        [["a", []], ["malice", []]],
        [["malice", demo], ["z", []]],
        [["malice", demo]],
        [["sim", demo], ["sim2", demo]],
        [["aux-sim", demo], ["sim", demo]],
        [["aux-sim", demo]],
        [["aux", []], ["sim", demo]],
    ]
    command = [engine_python, "-I", "-c", DEFAULTS]
    done = subprocess.run(command, input=json.dumps(stores), capture_output=True, text=True, check=True, timeout=60)
    installed = models.InstalledModels()
    for store, wanted in zip(stores, json.loads(done.stdout), strict=True):
        parts = [{"surroundings": {}} if "aux" in name else {} for name, _ in store]
        installed.cards = [
            models.Card.of({"name": name, "tags": tags, **part})
            for (name, tags), part in zip(store, parts, strict=True)
        ]
        card = installed.card("")
        assert (card.name if card else None) == wanted, store
        # A dialog proposes the same; where the engine would ask for a name, one made for real work.
        assert installed.default() == (wanted or next((name for name, tags in store if not tags), "")), store


CARDS = [
    models.Card.of({"name": "aux", "modalities": {"s1": {"channels": ["VV", "cos_incidence"]}}, "surroundings": {}}),
    models.Card.of({"name": "malice", "modalities": {"s1": {"channels": ["VV"]}}}),
]


def test_a_card_says_what_it_needs(qgis_app: object) -> None:
    assert [card.aux for card in CARDS] == [True, False]
    assert CARDS[0].line.startswith("aux: S1 (VV), weather, DEM and angles.")
    assert CARDS[1].line.startswith("malice: S1 (VV).")


@pytest.mark.parametrize(("name_of", "output"), [("embed", "OUTPUT"), ("inspect", "REPORT")])
def test_the_dialog_asks_for_what_the_model_needs(
    provider: object, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name_of: str, output: str
) -> None:
    # The window's stand-in in tests has no browser.
    monkeypatch.setattr("processing.gui.ParametersPanel.iface", None)
    monkeypatch.setattr(models.INSTALLED, "cards", CARDS)
    algorithm = provider.algorithm(name_of).create()
    dialog = algorithm.createCustomParametersWidget(None)
    panel = dialog.mainWidget()
    names = {*SURROUNDINGS, *HOLES}
    dem, folder = str(scene / "S1" / "S1_20180105.tif"), str(tmp_path)

    def shown() -> set[str]:
        found = set()
        for name, wrapper in panel.wrappers.items():
            hidden = wrapper.wrappedWidget().isHidden()
            assert wrapper.wrappedLabel() is None or wrapper.wrappedLabel().isHidden() == hidden, name
            if not hidden:
                found.add(name)
        return found

    advanced = panel.findChild(QGroupBox, "grpAdvanced")
    everything = {one.name() for one in algorithm.parameterDefinitions()}
    assert advanced.property("collapsed") is True, "the model that is proposed sees images alone"
    box = panel.wrappers["MODEL"].wrappedWidget()
    assert isinstance(box, QComboBox)
    texts = {box.itemText(row): box.itemData(row) for row in range(box.count()) if box.itemData(row)}
    assert texts == {"aux (needs weather, DEM and angles)": "aux", "malice": "malice"}
    assert shown() == everything - names
    images = {"FOLDER_S1": str(scene / "S1"), output: str(tmp_path / ("e.tif" if output == "OUTPUT" else "e.html"))}
    dialog.setParameters({**images, "MODEL": "aux", "DEM": dem, "ANGLES_S1": "38.5"})
    assert shown() == everything
    assert advanced.property("collapsed") is False
    monkeypatch.setattr("malice_qgis.dialog.QFileDialog.getExistingDirectory", lambda *_: folder)
    for name in ("WEATHER", "ANGLES_S2"):
        panel.findChild(QToolButton, f"{name}_folder").click()
    whole = dialog.createProcessingParameters()
    files = {"WEATHER": folder, "DEM": dem, "ANGLES_S2": folder}
    assert {name: whole[name] for name in names} == {**files, "ANGLES_S1": "38.5", **dict.fromkeys(HOLES, "error")}

    dialog.setParameters({"ANGLES_S1": "39"})
    assert dialog.createProcessingParameters()["ANGLES_S1"] == "39"
    dialog.setParameters({"ANGLES_S1": "38.5"})

    # What is hidden stays behind, and is there again.
    dialog.setParameters({"MODEL": "malice"})
    assert shown() == everything - names
    assert not names & dialog.createProcessingParameters().keys()
    assert dialog.createProcessingParameters()["MODEL"] == "malice"
    dialog.setParameters({"MODEL": "aux"})
    assert dialog.createProcessingParameters() == whole

    # Several files, as the widget writes them, and as they come from the history.
    widget = panel.wrappers["WEATHER"].wrappedWidget()
    assert widget.storageMode() == QgsFileWidget.StorageMode.GetMultipleFiles
    several = '"/weather/a.csv" "/weather/b.nc"'
    dialog.setParameters({"WEATHER": several})
    assert QgsFileWidget.splitFilePaths(widget.filePath()) == ["/weather/a.csv", "/weather/b.nc"]
    assert dialog.createProcessingParameters()["WEATHER"] == several
    dialog.close()


@pytest.mark.parametrize("name_of", ["embed", "inspect"])
def test_a_model_that_is_not_listed_stays_as_it_was_given(
    provider: object, scene: Path, monkeypatch: pytest.MonkeyPatch, name_of: str
) -> None:
    """Of the history, a script or another machine: nothing else is computed in its place."""
    monkeypatch.setattr("processing.gui.ParametersPanel.iface", None)
    monkeypatch.setattr(models.INSTALLED, "cards", CARDS)
    algorithm = provider.algorithm(name_of).create()
    dialog = algorithm.createCustomParametersWidget(None)
    box = dialog.mainWidget().wrappers["MODEL"].wrappedWidget()
    assert box.currentData() == "malice", "what the engine takes"
    for name, shown in (("gone", "gone"), ("malice", "malice"), ("", ""), ("gone", "gone")):
        dialog.setParameters({"FOLDER_S2": str(scene / "S2"), "MODEL": name})
        assert dialog.createProcessingParameters()["MODEL"] == (name or None)
        assert box.currentText() == shown
    assert [box.itemData(row) for row in range(box.count())] == [None, "aux", "malice", "gone"]
    # What the model needs is not known.
    assert not dialog.mainWidget().unused
    dialog.close()


def test_batch_and_designer_take_any_model(provider: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list there would show a name that is not in it as nothing, and the default would be computed."""
    monkeypatch.setattr("processing.gui.ParametersPanel.iface", None)
    monkeypatch.setattr(models.INSTALLED, "cards", CARDS)
    for name_of in ("embed", "inspect"):
        dialog = provider.algorithm(name_of).create().createCustomParametersWidget(None)
        # As its button for batch makes one.
        algorithm = dialog.algorithm().create()
        definition = algorithm.parameterDefinition("MODEL")
        assert "malice: S1 (VV)." in definition.help()
        for kind in (QgsProcessingGui.WidgetType.Batch, QgsProcessingGui.WidgetType.Modeler):
            typed = QgsGui.processingGuiRegistry().createParameterWidgetWrapper(definition, kind)
            widget = typed.createWrappedWidget(QgsProcessingContext())
            typed.setParameterValue("gone", QgsProcessingContext())
            assert isinstance(widget, QLineEdit)
            assert typed.parameterValue() == "gone"
        dialog.close()


def test_a_new_name_can_be_typed_for_a_model(provider: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What malice:models imports has a name that no list knows."""
    monkeypatch.setattr("processing.gui.ParametersPanel.iface", None)
    monkeypatch.setattr(models.INSTALLED, "cards", CARDS)
    algorithm = provider.algorithm("models").create()
    assert algorithm.parameterDefinition("NAME").help().endswith("Installed: aux, malice")
    dialog = AlgorithmDialog(algorithm)
    widget = dialog.mainWidget().wrappers["NAME"].wrappedWidget()
    typed = widget if isinstance(widget, QLineEdit) else widget.findChild(QLineEdit)
    typed.setText("mine")
    assert dialog.createProcessingParameters()["NAME"] == "mine"
    dialog.close()


def test_a_dialog_that_knows_no_models_shows_everything(provider: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processing.gui.ParametersPanel.iface", None)
    monkeypatch.setattr(models.INSTALLED, "cards", [])
    dialog = provider.algorithm("embed").create().createCustomParametersWidget(None)
    wrappers = dialog.mainWidget().wrappers
    assert not any(wrappers[name].wrappedWidget().isHidden() for name in (*SURROUNDINGS, *HOLES))
    dialog.setParameters({"MODEL": "typed by hand"})
    assert not any(wrappers[name].wrappedWidget().isHidden() for name in (*SURROUNDINGS, *HOLES))
    dialog.close()
