"""The plugin's translations: whole, with the values and tags of the texts, and at what the code says."""

from __future__ import annotations

import configparser
import importlib.util
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ["fr"]


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


translate = _load("translate")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_has_a_translation_that_fits(language: str) -> None:
    told = translate.read(ROOT / "malice_qgis" / "i18n" / f"malice_qgis_{language}.ts")
    wrong = {source: translate.misfit(source, told.get(source, "")) for source in translate.texts()}
    assert {source: problem for source, problem in wrong.items() if problem} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_file_is_at_the_texts_of_the_code(language: str) -> None:
    """As ``make translate`` leaves it."""
    path = ROOT / "malice_qgis" / "i18n" / f"malice_qgis_{language}.ts"
    assert path.read_text(encoding="utf-8") == translate.written(language, translate.texts(), translate.read(path))


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_plugin_manager_speaks_the_language(language: str) -> None:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(ROOT / "metadata.txt", encoding="utf-8")
    for key in ("description", "about"):
        told = metadata["general"][f"{key}[{language}]"]
        assert told.strip()
        assert told != metadata["general"][key]


@pytest.mark.parametrize(
    ("source", "told", "problem"),
    [
        ("{0} of {1}", "{1} : {0}", ""),
        ("{0} h {1:02d} min left", "encore {0} h {1:02d} min", ""),
        ("{0} h {1:02d} min left", "encore {0} h {1} min", "values"),
        ("{} files", "des fichiers", "values"),
        ("a {", "un {", ""),
        ("<p><b>Images:</b> many</p>", "<p><b>Images :</b> beaucoup</p>", ""),
        ("<p><b>Images:</b> many</p>", "<p>Images : beaucoup</p>", "tags"),
        (" (or that)", "(ou cela)", "blank"),
        ("Folder", "", "no translation"),
    ],
)
def test_translations_that_do_not_fit_are_found(source: str, told: str, problem: str) -> None:
    found = translate.misfit(source, told)
    assert problem in found
    assert bool(found) == bool(problem)


def test_texts_are_read_from_the_code_and_translations_survive(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        'A = marked("later")\nB = tr("a & b" " < c").format(1)\nC = tr(A)\nD = tr("later")\n', encoding="utf-8"
    )
    sources = translate.texts(tmp_path)
    assert list(sources) == ["later", "a & b < c"]
    path = tmp_path / "malice_qgis_fr.ts"
    path.write_text(translate.written("fr", sources, {"a & b < c": "d > e & f"}), encoding="utf-8")
    assert translate.read(path) == {"later": "", "a & b < c": "d > e & f"}
    assert path.read_text(encoding="utf-8").count("unfinished") == 1


@pytest.mark.parametrize(
    "line", ['tr(f"{a} files")', 'tr("{} files".format(a))', 'tr("a" + b)', "marked(a)"], ids=lambda line: line[:8]
)
def test_texts_put_together_before_they_are_translated_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "one.py").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(translate.TextError, match=r"one\.py:1: \w+\(\) wants a literal text"):
        translate.texts(tmp_path)


@pytest.fixture
def poor(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A checkout's tools on a machine without lrelease, which cannot build the engine's wheel either."""
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    for name in ("tools", "malice_qgis/i18n"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("metadata.txt", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    script = checkout / "tools" / "translations.sh"
    # The programs' own places are not on this path.
    script.write_text(script.read_text(encoding="utf-8").replace("/usr/lib/qt", "/nowhere/qt"), encoding="utf-8")
    programs.mkdir()
    for name in ("bash", "rm", "cp", "mv", "mkdir", "mktemp", "find", "sed", "uname"):
        (programs / name).symlink_to(shutil.which(name) or "")
    python = programs / "python"
    python.write_text('#!/bin/sh\n[ "$1" != -c ]\n', encoding="utf-8")
    python.chmod(0o755)
    environment = {"PATH": str(programs), "MALICE_NO_APT": "1", "MALICE_BUILD_PYTHON": str(python)}
    return checkout, {**environment, "PROFILE": str(tmp_path / "profile"), "HOME": str(tmp_path)}


def test_without_lrelease_a_checkout_is_deployed_in_english_and_says_so(poor: tuple[Path, dict[str, str]]) -> None:
    checkout, environment = poor
    done = subprocess.run(
        ["bash", "tools/plugin.sh", "deploy"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("translations:")]
    assert line == "translations: none, because lrelease is missing: apt-get install qttools5-dev-tools"
    plugin = Path(environment["PROFILE"]) / "python" / "plugins" / "malice_qgis"
    assert (plugin / "metadata.txt").is_file()
    assert list((plugin / "i18n").iterdir()) == []


def test_without_lrelease_no_zip_is_made(poor: tuple[Path, dict[str, str]]) -> None:
    checkout, environment = poor
    done = subprocess.run(
        ["bash", "tools/plugin.sh", "package", "out"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "translations: lrelease is missing: apt-get install qttools5-dev-tools\n"
    assert not (checkout / "out").exists()


def test_a_zip_without_french_is_found(tmp_path: Path) -> None:
    validate = _load("validate")
    archive = tmp_path / "p.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in (*validate.WANTED, "engine_source/malice_core-1-py3-none-any.whl"):
            if not name.endswith(".qm"):
                opened.writestr(f"malice_qgis/{name}", "")
    assert validate.contents(archive) == ["i18n/malice_qgis_fr.qm is missing"]
