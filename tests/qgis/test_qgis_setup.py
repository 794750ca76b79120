"""The set-up of the engine: offline from wheels, refused hashes, interrupted anywhere, repaired, removed, cancelled."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from malice_qgis import engine, lastwords
from malice_qgis.algorithms.base import EngineRun
from malice_qgis.algorithms.setup import SetupAlgorithm
from malice_qgis.models import INSTALLED
from malice_qgis.setup import building, pips, places, pythons, report
from malice_qgis.words import Words
from qgis.core import QgsProcessingContext, QgsProcessingException, QgsSettings
from qgis.PyQt.QtCore import QCoreApplication

from helpers_qgis import Log, fake_engine, wait_until
from helpers_setup import Impatient, Kit, processes

STEPS = (
    "A virtual environment is made",
    "Packages are fetched and installed",
    "Everything is fetched; now it is unpacked, which takes a minute.",
    "The engine is tried",
    "The engine works",
)


@pytest.fixture(scope="module")
def ours(qgis_app: object, engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """A profile of its own, and what the set-up is made of in place of the plugin's own.

    The engine of other tests is known before its variable is taken away.
    """
    folder = tmp_path_factory.mktemp("set up")
    found = Kit(folder / "kit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "home", lambda: str(folder / "profile" / "malice"))
        patch.setattr(building, "SOURCE", str(found.source))
        patch.setattr(pips, "lock_file", lambda device: str(found.lock))
        patch.delenv(engine.VARIABLE, raising=False)
        yield found


@pytest.fixture
def empty(ours: Kit) -> Iterator[Kit]:
    """No engine is there."""
    ours.whole()
    ours.engine("9.1")
    shutil.rmtree(places.home(), ignore_errors=True)
    Path(places.base()).mkdir(parents=True)
    QgsSettings().remove(engine.SETTING)
    yield ours
    QgsSettings().remove(engine.SETTING)


@pytest.fixture
def kit(ours: Kit) -> Iterator[Kit]:
    """The engine 9.1 is there; most tests leave it as it is, which is what they look at."""
    ours.whole()
    ours.engine("9.1")
    QgsSettings().remove(engine.SETTING)
    run(ours)
    for left in places.others():
        assert places.remove(left)
    yield ours
    QgsSettings().remove(engine.SETTING)


def mine() -> list[str]:
    """The folders of engines that are there."""
    return sorted((name for name in os.listdir(places.base()) if name.isdigit()), key=int)


def run(kit: Kit, action: str = "install", feedback: Log | None = None, **more: Any) -> dict[str, Any]:
    """Runs ``malice:setup`` in this thread, offline; what is wrong is raised."""
    given = {"ACTION": action, **({"WHEELS": str(kit.wheels)} if action in ("install", "repair") else {}), **more}
    algorithm, context = SetupAlgorithm(), QgsProcessingContext()
    algorithm.initAlgorithm()
    good, message = algorithm.checkParameterValues(given, context)
    if not good:
        raise QgsProcessingException(message)
    return algorithm.run(given, context, feedback or Log(), {}, False)[0]


def works(version: str) -> bool:
    """The engine that the plugin finds is this one and answers."""
    return engine.handshake(engine.find(), lambda: False) == version


def test_an_engine_is_made_kept_and_renewed(empty: Kit) -> None:
    log = Log()
    results = run(empty, feedback=log)
    assert results["VERSION"] == "9.1"
    assert results["ENGINE_PYTHON"] == engine.find() == os.path.join(places.base(), "1", "bin", "python")
    assert works("9.1")
    assert not (Path(places.base()) / "1" / "tmp").exists()
    assert log.steps == sorted(log.steps)
    assert log.steps[-1] == 100
    assert any("alpha-1.0" in text for text in log.texts)
    whole = Path(places.log_file()).read_text(encoding="utf-8")
    assert "Successfully installed" in whole
    assert "Ignoring gamma" in whole
    run(empty)
    assert mine() == ["1"], "what is as it should be is left alone"
    empty.engine("9.2")
    assert run(empty)["VERSION"] == "9.2"
    assert mine() == ["2"], "a plugin with another engine makes it anew, and the old one goes"
    assert run(empty, "repair")["VERSION"] == "9.2"
    assert mine() == ["3"]
    assert run(empty, "check")["VERSION"] == "9.2"


def test_a_file_of_another_hash_is_refused(kit: Kit) -> None:
    before = mine()
    kit.spoil()
    with pytest.raises(QgsProcessingException, match="a file is not the one that is expected") as caught:
        run(kit, "repair")
    assert "\n" not in str(caught.value)
    assert works("9.1")
    assert mine() == before
    assert "a file is not the one that is expected" in lastwords.read()


def test_a_wheel_that_is_missing_is_named(kit: Kit) -> None:
    before = mine()
    (kit.wheels / "beta-2.0-py3-none-any.whl").unlink()
    with pytest.raises(QgsProcessingException, match=r"a package is missing in the folder of wheels.*beta==2\.0"):
        run(kit, "repair")
    assert works("9.1")
    assert mine() == before


@pytest.mark.parametrize("step", STEPS)
def test_cancelled_at_any_step_the_old_engine_stays(kit: Kit, step: str) -> None:
    before = mine()
    kit.engine("9.2")
    log = Impatient(step)
    with pytest.raises(QgsProcessingException, match="cancelled"):
        run(kit, feedback=log)
    assert step in log.texts
    assert works("9.1")
    assert mine() == before


@pytest.mark.parametrize("broken", ["sys.exit('error: nothing computes')", "os.abort()"])
def test_an_engine_that_does_not_work_is_not_taken(kit: Kit, broken: str) -> None:
    before = mine()
    kit.engine("9.2", broken)
    with pytest.raises(QgsProcessingException, match="The new engine does not work"):
        run(kit)
    assert works("9.1")
    assert mine() == before


def test_what_a_killed_set_up_left_is_removed_by_the_next(kit: Kit) -> None:
    (old,) = mine()
    torn = Path(places.base()) / str(int(old) + 1)
    (torn / "bin").mkdir(parents=True)
    (torn / "bin" / "python").write_text("torn", encoding="utf-8")
    assert works("9.1")
    run(kit, "repair")
    assert not torn.exists() or (torn / "pyvenv.cfg").exists()
    assert len(mine()) == 1
    assert works("9.1")


def test_a_pointer_that_is_torn_is_no_engine(kit: Kit) -> None:
    pointer = Path(places.base()) / "current"
    told = pointer.read_text(encoding="ascii")
    for text in ("", "../../evil", "12x", "\xff"):
        pointer.write_text(text, encoding="latin-1")
        assert places.current() == ""
    pointer.write_text(told, encoding="ascii")
    assert works("9.1")


def test_removing_takes_all_of_it_and_the_cure_is_named(kit: Kit) -> None:
    run(kit, "remove")
    assert mine() == []
    with pytest.raises(engine.EngineError, match="malice:setup"):
        engine.find()
    with pytest.raises(QgsProcessingException, match="malice:setup"):
        run(kit, "check")
    assert SetupAlgorithm().canExecute()[0]
    run(kit, "remove")  # nothing is there: no error


def test_two_set_ups_do_not_meet(kit: Kit) -> None:
    with places.Lock(), pytest.raises(QgsProcessingException, match="Another set-up"):
        run(kit, "repair")
    run(kit)
    assert works("9.1")


def test_an_engine_at_work_is_not_removed(kit: Kit) -> None:
    """Whatever QGIS it works for: what tells is a file."""
    (old,) = mine()
    seen = []
    process = engine.EngineProcess(places.python(), ["-c", "print(1)"])
    assert process.run(lambda _: seen.append(places.in_use(places.current())), print, lambda: False) == 0
    assert seen == [True]
    assert not places.in_use(places.current())
    with places.Use(places.python()):
        with pytest.raises(QgsProcessingException, match="at work"):
            run(kit, "remove")
        run(kit, "repair")
        assert len(mine()) == 2
        assert old in mine()
    # One whose process has died does not count.
    (Path(places.base()) / old / "run-x.lock").write_text(
        f"999999999\nqgis\n{socket.gethostname()}\n", encoding="utf-8"
    )
    run(kit, "repair")
    assert len(mine()) == 1


@pytest.mark.acceptance
def test_cancel_ends_within_a_second_and_leaves_nothing(kit: Kit) -> None:
    """At ten random moments of a set-up that takes two seconds or more; some come too late."""
    choice = random.Random(7)
    took = []
    for _ in range(10):
        log, moment = Log(), [0.0]

        def cancel(log: Log = log, moment: list[float] = moment, after: float = choice.uniform(0, 3)) -> None:
            time.sleep(after)
            moment[0] = time.monotonic()
            log.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with contextlib.suppress(QgsProcessingException):
            run(kit, "repair", log)
        ended = time.monotonic()
        thread.join()
        took.append(ended - moment[0])  # negative: it was over before
        assert processes(places.base()) == []
        assert len(mine()) == 1
        assert works("9.1")
    assert max(took) < 1.3
    assert max(took) > 0


def test_no_room_is_told_before_anything_is_made(empty: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(building.NEEDED, "cpu", 1 << 62)
    with pytest.raises(QgsProcessingException, match="make room"):
        run(empty)
    assert mine() == []


def test_without_a_gpu_the_reason_is_told_and_a_processor_taken(kit: Kit) -> None:
    log = Log()
    run(kit, "repair", log, DEVICE="cuda")
    (told,) = [text for text in log.warnings if "GPU" in text]
    assert "An engine for processors is used instead" in told
    assert building.record(places.current())["device"] == "cpu"
    # One that is there is kept.
    (made,) = mine()
    run(kit, "install", Log(), DEVICE="cuda")
    assert mine() == [made]


def with_a_driver(monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """Every Python finds an NVIDIA driver for this version of CUDA, and a card."""
    honest = pythons.ask

    def ask(command: list[str], *more: Any) -> Any:
        answer = honest(command, *more)
        return answer if isinstance(answer, str) else pythons.Found(**{**vars(answer), "cuda": "", "driver": version})

    monkeypatch.setattr(pythons, "ask", ask)


@pytest.mark.parametrize(("driver", "says"), [(12080, "is for CUDA 12.8, the engine needs 13.0"), (13000, "")])
def test_a_driver_for_another_cuda_is_told_before_anything_is_fetched(
    kit: Kit, driver: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_a_driver(monkeypatch, driver)
    begun: list[str] = []
    honest = building.Builder._make

    def make(self: building.Builder, folder: str, found: pythons.Found, wish: building.Wish, *more: Any) -> str:
        begun.append(wish.device)
        return honest(self, folder, found, wish, *more)

    monkeypatch.setattr(building.Builder, "_make", make)
    log = Log()
    run(kit, "repair", log, DEVICE="cuda")
    assert begun == ["cpu" if says else "cuda"]
    assert building.record(places.current())["device"] == begun[0]
    assert len(log.warnings) == bool(says)
    assert says in "".join(log.warnings)


@pytest.mark.parametrize("card", [True, False])
def test_a_gpu_counts_only_after_it_has_computed(kit: Kit, card: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver answers; whether its card computes is seen when the new engine is tried."""
    with_a_driver(monkeypatch, 13000)
    mark = Path(places.base()) / "no_card"
    if not card:
        mark.touch()
    log = Log()
    run(kit, "repair", log, DEVICE="cuda")
    mark.unlink(missing_ok=True)
    assert building.record(places.current())["device"] == ("cuda" if card else "cpu")
    assert [text for text in log.warnings if "no card" in text] == log.warnings
    assert bool(log.warnings) != card


def test_an_engine_that_is_there_is_used(kit: Kit, tmp_path: Path, scene: Path, engine_python: str) -> None:
    (tmp_path / "bin").mkdir()
    wrong = fake_engine(tmp_path / "bin", """echo '{"contract": 7, "version": "2"}'\n""")
    with pytest.raises(QgsProcessingException, match="contract 7"):
        run(kit, WHEELS=None, ENGINE=wrong)
    assert works("9.1"), "one that is refused changes nothing"
    results = run(kit, WHEELS=None, ENGINE=engine_python)
    assert results["ENGINE_PYTHON"] == engine.find() == engine_python
    log = Log()
    run(kit, feedback=log)
    assert works("9.1"), "who sets up wants what is set up"
    assert any(engine_python in text for text in log.texts), "what the setting was is told"


def test_paths_are_what_they_were_where_they_were_given(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are read in other folders. Links stay: behind the Python of an environment is another one."""
    (tmp_path / "bin").mkdir()
    python = Path(fake_engine(tmp_path / "bin", """echo '{"contract": 1, "version": "3"}'\n"""))
    link = python.with_name("python3")
    link.symlink_to(python)
    monkeypatch.chdir(tmp_path)
    results = run(kit, WHEELS=None, ENGINE="bin/python3", REPORT="told.txt")
    assert QgsSettings().value(engine.SETTING) == results["ENGINE_PYTHON"] == str(link)
    assert results["REPORT"] == str(tmp_path / "told.txt")
    assert "MALICE diagnosis" in (tmp_path / "told.txt").read_text(encoding="utf-8")
    wishes: list[building.Wish] = []
    monkeypatch.setattr(building.Builder, "build", lambda _, wish: wishes.append(wish) or places.python())
    run(kit, "repair", PYTHON="bin/python3", WHEELS=os.path.relpath(kit.wheels))
    assert wishes == [building.Wish(str(link), str(kit.wheels), "cpu")]


def test_dialogs_know_the_models_of_the_engine_that_counts(
    kit: Kit, scene: Path, engine_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as the set-up has ended, without another dialog that asks."""
    monkeypatch.setenv("MALICE_MODELS", str(scene / "models"))
    told: list[list[str]] = []

    def knows(*names: str) -> bool:
        QCoreApplication.processEvents()
        return set(names) <= set(told[-1] if told else []) and bool(names) == bool(INSTALLED.names)

    INSTALLED.watch(lambda: told.append(INSTALLED.names))
    try:
        run(kit, WHEELS=None, ENGINE=engine_python)
        wait_until(lambda: knows("tiny", "malice-sim"), 20)
        # The set-up's own engine of these tests has no models, and one that is removed neither.
        run(kit)
        wait_until(lambda: knows() and told[-1] == [], 20)
        run(kit, WHEELS=None, ENGINE=engine_python)
        wait_until(lambda: knows("tiny"), 20)
        QgsSettings().remove(engine.SETTING)
        run(kit, "remove")
        assert told[-1] == INSTALLED.names == []
    finally:
        INSTALLED.stop()
        INSTALLED.forget()


def test_an_engine_of_another_release_is_told_at_each_run(kit: Kit, engine_python: str) -> None:
    def warnings() -> list[str]:
        log = Log()
        with pytest.raises(engine.EngineError):  # it says its contract, and nothing else
            EngineRun(log, Words()).execute("malice_core.embed", [])
        return log.warnings

    assert warnings() == []
    kit.engine("9.2")
    (told,) = warnings()
    assert "another release of the plugin: run MALICE set-up" in told
    assert told in report.collect(lambda: False)
    misses = building._digest.cache_info().misses
    assert warnings() == [told]
    assert building._digest.cache_info().misses == misses, "files that have not changed are not read again"
    QgsSettings().setValue(engine.SETTING, engine_python)
    assert warnings() == [], "an engine of the user's own is the user's affair"
    QgsSettings().remove(engine.SETTING)
    for path in kit.source.glob("*.whl"):
        path.unlink()
    assert warnings() == [], "there is no other one"
    kit.engine("9.2")
    run(kit)
    assert warnings() == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"WHEELS": "/not/there"}, "WHEELS: /not/there is no folder"),
        ({"PYTHON": "/not/there"}, "PYTHON: /not/there is no program"),
        ({"action": "repair", "PYTHON": "/bin/true"}, "PYTHON /bin/true cannot be used"),
        ({"action": "destroy"}, "'destroy' is none of install, repair"),
        ({"action": "remove", "ENGINE": "/usr/bin/python3"}, "it goes with ACTION install alone"),
        ({"REPORT": "/tmp/report.tif"}, "ends in .html or .txt"),
        ({"REPORT": "/not/there/r.html"}, "REPORT /not/there/r.html cannot be written there"),
    ],
)
def test_what_cannot_be_is_one_line(kit: Kit, given: dict[str, str], says: str) -> None:
    with pytest.raises(QgsProcessingException, match="(?s)" + says.replace("/", r"\/")) as caught:
        run(kit, **given)
    assert "\n" not in str(caught.value)


def test_a_plugin_without_its_engine_says_so(kit: Kit) -> None:
    for path in kit.source.glob("*.whl"):
        path.unlink()
    with pytest.raises(QgsProcessingException, match="comes without its engine"):
        run(kit, "repair")


def test_a_set_up_that_fails_writes_the_diagnosis(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.spoil()
    log = Log()
    with pytest.raises(QgsProcessingException, match="a file is not the one that is expected"):
        run(kit, "repair", log, REPORT=str(tmp_path / "r.html"))
    assert "a file is not the one that is expected" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert log.errors == []

    def full(path: str, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"{path}.part")

    monkeypatch.setattr(report, "write", full)
    with pytest.raises(QgsProcessingException, match="a file is not the one that is expected"):
        run(kit, "repair", log, REPORT=str(tmp_path / "s.html"))
    assert log.errors == [f"REPORT {tmp_path / 's.html'} cannot be written: No space left on device."]
