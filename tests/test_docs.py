"""The documentation: links and anchors lead somewhere, every page is in the site, and the site fetches nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from helpers_docs import sections, text_of

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
READ = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
_LINK = re.compile(r"(!?)\[[^\]]*\]\(\s*<?([^)\s>]*)>?[^)]*\)")


def links(path: Path) -> list[tuple[bool, str]]:
    """(whether it is a picture, target) of each link of a page."""
    return [(mark == "!", target) for mark, target in _LINK.findall(text_of(path))]


@pytest.mark.parametrize("path", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for picture, target in links(path):
        if re.match(r"[a-z]+:", target):
            parts = urlsplit(target)
            assert parts.scheme == "https", f"{target}: no https address"
            assert re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.netloc), f"{target}: no address of a server"
            assert not picture, f"{target}: a picture of another server"
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place.exists(), f"{target}: there is no {place}"
        if DOCS in path.parents:
            assert place.is_relative_to(DOCS), f"{target} is not part of the site: give its address on GitHub"
        if anchor:
            assert anchor in sections(place), f"{target}: no such heading, or GitHub and mkdocs name it differently"


def test_every_page_is_in_the_site_and_every_picture_in_a_page() -> None:
    told = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed: list[str] = []

    def collect(part: object) -> None:
        for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]:
            if isinstance(one, str):
                listed.append(one)
            else:
                collect(one)

    collect(told)
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in PAGES]
    shown = {(path.parent / target).resolve() for path in READ for picture, target in links(path) if picture}
    assert set(DOCS.rglob("*.png")) - shown == set()


def test_the_readme_is_short_and_has_one_picture() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 120
    assert sum(picture for picture, _ in links(ROOT / "README.md")) == 1


def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    # Not --quiet: mkdocs would not count the warnings that --strict makes errors.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]*)\"", text)
        fetched += re.findall(r"<link[^>]*\shref=\"([^\"]*)\"", text)
        assert fetched
        assert [one for one in fetched if re.match(r"(https?:)?//", one)] == []
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text(encoding="utf-8")), style.name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](b.md#c) and ![d](e.png)", [(False, "b.md#c"), (True, "e.png")]),
        ("`x[1](y)`\n\n    [code](z.md)\n\n```\n[code](z.md)\n```\n", []),
        ('[a](<b.md> "title")', [(False, "b.md")]),
    ],
)
def test_links_are_found(text: str, found: list[tuple[bool, str]], tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    assert links(tmp_path / "page.md") == found


def test_anchors_are_those_of_github_and_mkdocs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# On a GPU\n\n## `--dask`: blocks\n\n## A, B & C\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    # Of "--dask" GitHub keeps both dashes; "A, B & C" is "a-b--c" there; the second of two has a number.
    assert set(sections(page)) == {"on-a-gpu", "twice"}


def test_a_section_is_what_stands_under_a_heading(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n\na\n\n    # code\n\n## Two\n\n`b#`\n\n## One\n\nc\n", encoding="utf-8")
    assert {name: text.split() for name, text in sections(page).items()} == {"one": ["a"], "two": ["`b`"]}
