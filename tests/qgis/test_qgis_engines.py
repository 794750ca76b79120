"""Engines that are wrong: of another version, dying, speaking nonsense, hidden behind a wrapper script."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from malice_qgis import events, models
from qgis.core import QgsProcessingContext, QgsProcessingException, QgsProcessingFeedback
from qgis.PyQt.QtCore import QCoreApplication

from helpers_qgis import Shell, engines, fake_engine, one_line, wait_until

GOOD = """case "$*" in *--contract*) echo '{"contract": 1, "version": "9.9"}'; exit 0;; esac\n"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("""echo '{"contract": 7, "version": "2.0"}'""", ["contract 7", "contract 1", "update the plugin"]),
        ("""echo '{"contract": 0, "version": "0.0"}'""", ["contract 0", "contract 1", "update the engine"]),
        ("""echo '{"contract": [1], "version": {}}'""", ["contract [1]", "contract 1"]),
        ("echo 'No module named malice_core' >&2; exit 1", ["No module named malice_core", "install it anew"]),
        (GOOD + "echo last words >&2; kill -9 $$", ["crashed or was killed", "last words", "MEMORY"]),
        (GOOD + "echo 'libfoo.so: cannot open shared object file' >&2; exit 127", ["code 127", "libfoo", "anew"]),
        (GOOD + "exit 0", ["ended with code 0"]),
        (GOOD + """echo '{"event": "done", "files": 7, "seconds": []}'""", ["ended with code 0"]),
        (GOOD + """echo '{"event": "error", "message": ["no", 1]}'; exit 2""", ["['no', 1]"]),
        (GOOD + """printf '{"event": "error", "message": "a \\\\ud800 b\\\\nc"}\\n'; exit 2""", ["a ? b c"]),
        (GOOD + "printf '\\377\\376 odd\\n' >&2; exit 9", ["code 9", "odd"]),
    ],
)
def test_engines_that_are_wrong_or_die(shell: Shell, scene: Path, tmp_path: Path, body: str, says: list[str]) -> None:
    (tmp_path / "bin").mkdir()
    python = fake_engine(tmp_path / "bin", body)
    done = shell.embed(f"FOLDER_S2={scene / 'S2'}", f"OUTPUT={tmp_path / 'e.tif'}", MALICE_ENGINE_PYTHON=python)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    for text in says:
        assert text in one_line(done.stderr), done.stderr
    assert not (tmp_path / "e.tif").exists()


NONSENSE = """
{"event": "progress"}
{"event": "progress", "done": "x", "total": null, "eta_s": NaN, "step": 5}
{"event": "progress", "done": 1e999, "total": 0, "eta_s": 1e999}
{"event": "progress", "done": -5, "total": 2, "eta_s": -1}
{"event": "plan", "plan": [], "text": {}}
{"event": "warning"}
{"event": ["plan"]}
{"event": "progress", "done": 1, "total": 2, "step": "\\\\ud800"}
[1, 2]
{"event":
"""


def test_events_of_another_shape_stop_nothing(
    provider: object, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nonsense on stdout, and a line of 60 MB, before the engine ends with an error of its own."""
    deep = f"echo '{'[' * 100_000}'\n"
    long = "head -c 60000000 /dev/zero | tr '\\0' x; echo\n"
    talk = f"cat <<'END'\n{NONSENSE.strip()}\nEND\n{deep}{long}"
    (tmp_path / "bin").mkdir()
    last = """echo '{"event": "error", "message": "the last word"}'; exit 2\n"""
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", fake_engine(tmp_path / "bin", GOOD + talk + last))
    begun = time.monotonic()
    with pytest.raises(QgsProcessingException, match="the last word"):
        run_to(provider, scene / "S2", tmp_path / "e.tif", QgsProcessingFeedback(False))
    assert time.monotonic() - begun < 10, "a long line must not take long"


def run_to(provider: object, folder: Path, output: Path, feedback: QgsProcessingFeedback) -> None:
    """Runs ``malice:embed`` in this thread; what is wrong is raised."""
    given = {"FOLDER_S2": str(folder), "MODEL": "tiny", "OUTPUT": str(output)}
    provider.algorithm("embed").run(given, QgsProcessingContext(), feedback, {}, False)


def test_lines_are_put_together_however_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = random.Random(0)
    whole = ["a", "ü" * 40, "", "x" * 500, "last"]
    content = "\n".join(whole).encode()
    for _ in range(50):
        lines, found, place = events.Lines(), [], 0
        while place < len(content):
            step = choice.randrange(1, 60)
            found += lines.feed(content[place : place + step])
            place += step
        found += lines.feed(b"", last=True)
        assert found == [line for line in whole if line]
    monkeypatch.setattr(events, "LONGEST", 10)
    assert events.Lines().feed(b"x" * 25 + b"\ny\n") == ["x" * 10, "y"]


def test_an_engine_behind_a_wrapper_script_is_stopped_too(
    provider: object, scene: Path, tmp_path: Path, engine_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is QGIS' child, the engine the script's."""
    (tmp_path / "bin").mkdir()
    wrapper = fake_engine(tmp_path / "bin", f'"{engine_python}" "$@"\nexit $?\n')
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", wrapper)

    class Impatient(QgsProcessingFeedback):
        """Cancels once the engine works."""

        def isCanceled(self) -> bool:
            return (tmp_path / "e.tif.malice" / "job.json").exists()

    with pytest.raises(QgsProcessingException, match="cancelled"):
        run_to(provider, scene / "big", tmp_path / "e.tif", Impatient(False))
    wait_until(lambda: not engines(tmp_path / "e.tif"), 2)
    assert not (tmp_path / "e.tif").exists()


def test_models_of_an_engine_that_cannot_start(
    qgis_app: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look for models that fails is over: the next one can begin."""
    broken = tmp_path / "python"
    broken.write_bytes(b"\x7fELF nothing")
    broken.chmod(0o755)
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", str(broken))
    installed = models.InstalledModels()
    installed.watch(lambda: None)
    begun = time.monotonic()
    while installed._process is not None and time.monotonic() - begun < 10:
        QCoreApplication.processEvents()
        time.sleep(0.01)
    assert installed._process is None
    assert installed.cards == []
    installed.stop()


def test_what_an_engine_says_counts_no_more_once_it_is_another(
    qgis_app: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that was asked before, and answers afterwards."""
    for name, wait in (("old", 1), ("new", 0)):
        (tmp_path / name).mkdir()
        fake_engine(tmp_path / name, f"""sleep {wait}; echo '{{"models": [{{"name": "{name}"}}]}}'\n""")
    told: list[list[str]] = []
    installed = models.InstalledModels()

    def knows(*names: str) -> bool:
        QCoreApplication.processEvents()
        return installed._process is None and installed.names == list(names)

    monkeypatch.setenv("MALICE_ENGINE_PYTHON", str(tmp_path / "old" / "python"))
    installed.watch(lambda: told.append(installed.names))
    wait_until(lambda: knows("old"), 10)
    installed.forget()
    assert installed.names == []
    installed.refresh()
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", str(tmp_path / "new" / "python"))
    installed.forget()
    installed.refresh()
    wait_until(lambda: knows("new"), 10)
    assert told == [["old"], ["new"]]
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", str(tmp_path / "none"))
    installed.forget()
    installed.refresh()
    assert told == [["old"], ["new"], []]
    installed.stop()


def test_cards_of_another_shape_are_shown_as_far_as_they_go(qgis_app: object) -> None:
    for told in ({"name": "m"}, {"name": "m", "modalities": 3, "tags": 4, "title": None}):
        assert models.Card.of(told).line.startswith("m: ")
    card = models.Card.of({"name": "m", "modalities": {"s1": {"channels": ["VV", "VH", "VH/VV"]}}, "tags": ["demo"]})
    assert "S1 (VV VH)" in card.line
    assert card.demo
