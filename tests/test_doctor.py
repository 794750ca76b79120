"""What ``malice_core.doctor`` finds: runtimes that compute, those that do not, and what is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_gpu import stand_in

from malice_core import doctor, models, processors, runtime
from malice_core.errors import DeviceError, MaliceError


def test_every_runtime_of_the_processor_computes(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["contract"] == 1
    assert {one["name"]: one["problem"] for one in found["runtimes"] if one["device"] == "cpu"} == {
        "openvino": "",
        "onnxruntime": "",
    }
    assert found["packages"]["numpy"] == np.__version__
    assert found["broken"] == []
    assert "malice-sim" in [one["name"] for one in found["models"]]


def test_a_device_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "_cuda_problem", lambda: "no driver")
    assert doctor.main(["--device", "cuda"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing computes on cuda" in line
    assert "no driver" in line


#: Python keeps back what is printed, as it does for users; a machine of tests may have it otherwise.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
PRINTING = ["doctor --json", "models list", "models list --json", "embed --contract"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
@pytest.mark.parametrize("command", PRINTING)
def test_output_that_is_full_ends_in_one_line(command: str) -> None:
    line = [sys.executable, "-m", *f"malice_core.{command}".split()]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(line, env=BUFFERED, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: stdout: there is no space left on its disk; free some\n")


@pytest.mark.skipif(os.name == "nt", reason="a pipe that nobody reads is another error there")
@pytest.mark.parametrize("command", PRINTING)
def test_output_that_nobody_reads_ends_without_a_word(command: str) -> None:
    line = [sys.executable, "-m", *f"malice_core.{command}".split()]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(line, env=BUFFERED, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    at_once = subprocess.run(
        line, env=BUFFERED | {"PYTHONUNBUFFERED": "1"}, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (at_once.returncode, at_once.stderr) == (1, "")


def test_a_runtime_that_computes_nonsense_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def run(self, feeds: object) -> np.ndarray:
            return np.ones((2, 2), np.float32)

    monkeypatch.setattr(runtime.Backend, "open", lambda *_: Wrong())
    assert "which is wrong" in doctor.problem("openvino", "cpu")


def test_a_card_that_exchanges_nonsense_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    device = stand_in(monkeypatch)
    assert doctor.problem("onnxruntime", "cuda") == ""
    monkeypatch.setattr(device, "to_device", lambda *_: None)
    assert "comes back from the card as [[0.0, 0.0, 0.0]," in doctor.problem("onnxruntime", "cuda")
    monkeypatch.setattr(device, "zeros", lambda _: (_ for _ in ()).throw(DeviceError("no room")))
    assert doctor.problem("onnxruntime", "cuda") == "no room"


def test_a_library_that_does_not_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torn.py").write_text("raise ImportError('DLL load failed')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "LIBRARIES", ("torn", "not_there_at_all"))
    assert doctor.findings()["broken"] == ["torn does not load: DLL load failed"]
    assert doctor.main(["--device", "cpu"]) == 2


def test_models_that_come_with_an_environment_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed from a wheel there is no checkout: the environment's share folder takes its place."""
    monkeypatch.setattr(models, "__file__", str(tmp_path / "lib" / "malice_core" / "models.py"))
    monkeypatch.setattr(models.sys, "prefix", str(tmp_path))
    monkeypatch.delenv("MALICE_MODELS", raising=False)
    assert models.search_path()[-1] == tmp_path / "share" / "malice" / "models"


@pytest.mark.parametrize(
    "first", ["runtime.choose('openvino', 'cpu').name", "doctor.broken('openvino')", "runtime.found()"]
)
def test_nothing_is_told_to_the_maker_of_a_runtime(first: str) -> None:
    """OpenVINO's own package for that is never imported, whatever imports OpenVINO first: it would open a connection in
    a forked process."""
    program = (
        f"import sys; from malice_core import doctor, runtime; {first}; import openvino.tools.ovc; "
        "loaded = [name for name, module in sys.modules.items() if name.startswith('openvino_telemetry') and module]; "
        "assert 'openvino' in sys.modules and not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_kept_to_be_told_to_the_maker_of_onnxruntime(tmp_path: Path) -> None:
    """Its telemetry has a file in the user's folder from the import on, which every run makes."""
    known = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"), f"{tmp_path}")

    def kept(first: str) -> bool:
        program = f"{first}; import onnxruntime; assert onnxruntime.get_available_providers()"
        done = subprocess.run(
            [sys.executable, "-c", program], env=known | places, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return any("onnxruntime" in f"{path}" for path in tmp_path.rglob("*"))

    assert not kept("from malice_core import runtime")
    assert not kept("from malice_core.store import agreement")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_container_has_the_share_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(processors, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert processors.count() == (expected or 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert processors.count() == 1


def test_a_graph_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    session = runtime.choose("openvino").open(runtime._probe(), {"x": (1,)})
    with pytest.raises(MaliceError, match=r"^openvino failed: .*; out of memory\? try a smaller --block or --memory$"):
        session.run({"x": np.zeros((2, 2), np.float32)})
