"""The diagnosis: what it tells of engines that work and that do not, its window, the last words of runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from malice_qgis import engine, lastwords
from malice_qgis.setup import building, places, report
from malice_qgis.setup.dialog import DiagnosisDialog
from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication

from helpers_qgis import fake_engine, wait_until


def wait(condition: Any) -> None:
    """Lets the window live until something is so."""

    def now() -> Any:
        QCoreApplication.processEvents()
        return condition()

    wait_until(now, 10)


@pytest.fixture
def home(qgis_app: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder of the plugin."""
    monkeypatch.setattr(places, "home", lambda: str(tmp_path / "malice"))
    return tmp_path / "malice"


def test_last_words_are_kept_of_runs_that_fail(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    talk = "echo out; echo 'no such file https://u:p@host/a' >&2; exit 9\n"
    python = fake_engine(tmp_path / "bin", talk)
    assert engine.EngineProcess(python, ["-m", "x"]).run(lambda _: None, lambda _: None, lambda: False) == 9
    words = lastwords.read()
    assert "ended with code 9" in words
    assert "no such file https://***@host/a" in words
    (home / "last_error.txt").unlink()
    fake_engine(tmp_path / "bin", "exit 0\n")
    engine.EngineProcess(python, []).run(lambda _: None, lambda _: None, lambda: False)
    assert lastwords.read() == ""


def test_the_report_says_what_a_maintainer_asks(engine: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:word@proxy:1")
    lastwords.keep(["python"], None, ["the last words"])
    text = report.collect(lambda: False)
    for part in (
        "QGIS 3.",
        "Qt 5.",
        "GDAL ",
        "== Engine",
        "tiny ",
        "the last words",
        "http://***@proxy:1",
        "version 0.",
    ):
        assert part in text, part
    assert "word@" not in text
    assert str(Path.home()) + "/" not in text


def test_the_report_is_made_without_an_engine(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", str(tmp_path / "none"))
    text = report.collect(lambda: False)
    assert "problem: There is no MALICE engine" in text
    report.write(str(tmp_path / "r.html"), text + "<&>")
    assert "&lt;&amp;&gt;" in (tmp_path / "r.html").read_text(encoding="utf-8")
    report.write(str(tmp_path / "r.txt"), text)
    assert (tmp_path / "r.txt").read_text(encoding="utf-8") == text


def test_the_dialog_copies_the_report(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "collect", lambda cancelled: "a report")
    dialog = DiagnosisDialog()
    assert not dialog.copy.isEnabled()
    wait(dialog.copy.isEnabled)
    dialog.copy.click()
    assert QgsApplication.clipboard().text() == "a report"
    dialog.reject()


def test_a_diagnosis_that_fails_is_shown_as_well(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(cancelled: object) -> str:
        raise ValueError("token=abc in a file")

    monkeypatch.setattr(report, "collect", broken)
    dialog = DiagnosisDialog()
    wait(dialog.copy.isEnabled)
    shown = dialog.shown.toPlainText()
    assert "The diagnosis itself failed" in shown
    assert "ValueError: token=*** in a file" in shown
    dialog.reject()


def test_closing_the_dialog_ends_the_asking(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    def slow(cancelled: object) -> str:
        while not cancelled():
            time.sleep(0.01)
        ended.append(True)
        raise engine.EngineCancelled("cancelled")

    monkeypatch.setattr(report, "collect", slow)
    dialog = DiagnosisDialog()
    time.sleep(0.1)
    dialog.reject()
    wait(lambda: ended)


FINDINGS = """{"version": "9", "python": "3.12.1", "system": "Linux", "processors": 4, "gdal": "3.9", "packages":
{"numpy": "2.1"}, "broken": ["rasterio does not load: libfoo"], "models": [{"name": "tiny"}], "runtimes":
[{"name": "openvino", "device": "cpu", "problem": "no AVX2"}]}""".replace("\n", " ")


def test_of_an_engine_that_does_not_compute_all_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong, and what the engine found out all the same: nobody needs it more."""
    (tmp_path / "bin").mkdir()
    contract = """case "$*" in *--contract*) echo '{"contract": 1, "version": "9"}'; exit 0;; esac\n"""
    doctor = f"echo '{FINDINGS}'; echo 'error: a library does not load' >&2; exit 2\n"
    python = fake_engine(tmp_path / "bin", contract + doctor)
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", python)
    found, problem = building.examine(python, lambda: False)
    assert (found["gdal"], problem) == ("3.9", "a library does not load")
    with pytest.raises(engine.EngineError, match="a library does not load"):
        building.require(python, lambda: False)
    lastwords.keep(["python"], None, ["what failed before"])
    text = report.collect(lambda: False)
    for part in (
        "what failed before",
        "version 9",
        "problem: a library does not load",
        "numpy 2.1",
        "openvino on cpu: no AVX2",
        "broken: rasterio does not load: libfoo",
        "== Models\ntiny",
    ):
        assert part in text, part
    # An engine that does not even say its contract.
    fake_engine(tmp_path / "bin", contract.replace("exit 0", "exit 9") + doctor)
    text = report.collect(lambda: False)
    assert text.count("problem: ") == 2
    assert "ended with code 9" in text
    assert "numpy 2.1" in text
    # One that dies without a word of its own.
    fake_engine(tmp_path / "bin", contract + "echo 'bang' >&2; exit 139\n")
    assert building.examine(python, lambda: False)[0] == {}
    text = report.collect(lambda: False)
    assert "ended with code 139. Last words: bang" in text
    assert "== Models" not in text


def test_a_diagnosis_that_is_cancelled_in_the_list_of_tasks_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(cancelled: Any) -> str:
        while not cancelled():
            time.sleep(0.01)
        raise engine.EngineCancelled("cancelled")

    monkeypatch.setattr(report, "collect", slow)
    dialog = DiagnosisDialog()
    QgsApplication.taskManager().cancelAll()
    wait(lambda: dialog.shown.toPlainText().startswith("Cancelled"))
    assert dialog._task is None
    assert not dialog.copy.isEnabled()
    dialog.reject()
