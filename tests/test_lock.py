"""The lock files of the plugin's set-up fit pyproject.toml on every platform and Python, and have hashes throughout."""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "malice_qgis" / "setup"
PLATFORMS = [
    ("linux", "x86_64"),
    ("linux", "aarch64"),
    ("win32", "AMD64"),
    ("darwin", "x86_64"),
    ("darwin", "arm64"),
]
ENVIRONMENTS = [
    {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.1",
    }
    for (system, machine), python in itertools.product(PLATFORMS, ("3.11", "3.12", "3.13", "3.14"))
    # onnxruntime's last wheels for Intel Macs are older than that Python.
    if (system, machine, python) != ("darwin", "x86_64", "3.14")
]
WITH_CUDA = [e for e in ENVIRONMENTS if (e["sys_platform"], e["platform_machine"]) in (PLATFORMS[0], PLATFORMS[2])]


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a lock file and the hashes of each; any other line fails."""
    found: list[tuple[Requirement, list[str]]] = []
    for line in (FOLDER / name).read_text(encoding="utf-8").replace("\\\n", "\n").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if sealed := re.fullmatch(r"\s+--hash=sha256:([0-9a-f]{64})\s*", line):
            found[-1][1].append(sealed[1])
        else:
            found.append((Requirement(line.strip()), []))
    return found


def wanted(cuda: bool) -> list[Requirement]:
    """What the engine asks for in pyproject.toml, with the extras that the set-up installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["analysis"], *extras["zarr"]]
    return [Requirement(re.sub("^onnxruntime(?=>)", "onnxruntime-gpu", t) if cuda else t) for t in texts]


@pytest.mark.parametrize(
    ("name", "environments"), [("engine.lock", ENVIRONMENTS), ("engine-cuda.lock", WITH_CUDA)], ids=["cpu", "cuda"]
)
def test_the_lock_fits_pyproject_everywhere(name: str, environments: list[dict[str, str]]) -> None:
    locked = entries(name)
    for environment in environments:
        pins: dict[str, str] = {}
        for requirement, _ in locked:
            if requirement.marker is None or requirement.marker.evaluate(environment):
                (pin,) = requirement.specifier
                assert pin.operator == "=="
                assert requirement.name not in pins, f"{requirement.name} is there twice for {environment}"
                pins[requirement.name] = pin.version
        for requirement in wanted(cuda="cuda" in name):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert requirement.name in pins, f"{requirement.name} is not locked for {environment}: make lock"
                assert requirement.specifier.contains(pins[requirement.name]), f"{requirement}: make lock"


@pytest.mark.parametrize("name", ["engine.lock", "engine-cuda.lock", "pip.lock"])
def test_every_requirement_has_hashes(name: str) -> None:
    for requirement, hashes in entries(name):
        assert hashes, requirement
        assert len(set(hashes)) == len(hashes)


def test_the_other_runtime_is_in_neither() -> None:
    """Both are one package ``onnxruntime`` on disk: the one installed last would win."""
    assert "onnxruntime-gpu" not in {one.name for one, _ in entries("engine.lock")}
    assert "onnxruntime" not in {one.name for one, _ in entries("engine-cuda.lock")}


def test_pip_is_the_file_its_address_says() -> None:
    ((requirement, hashes),) = entries("pip.lock")
    assert requirement.name == "pip"
    assert re.fullmatch(r"https://files\.pythonhosted\.org/\S+/pip-[\d.]+-py3-none-any\.whl", requirement.url or "")
    assert len(hashes) == 1


def test_the_plugin_asks_for_a_driver_of_the_cuda_that_is_locked() -> None:
    """Of CUDA's packages the runtime has CUDA's own version; a driver loads those of its major version."""
    (runtime,) = {one.specifier for one, _ in entries("engine-cuda.lock") if one.name == "nvidia-cuda-runtime"}
    (pin,) = runtime
    told = re.search(r"^CUDA = (\d+)$", (FOLDER / "pips.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert told is not None
    assert int(told[1]) == 1000 * int(pin.version.split(".")[0])


def test_the_plugin_and_the_lock_speak_of_the_same_pythons() -> None:
    tree = ast.parse((ROOT / "tools" / "lock.py").read_text(encoding="utf-8"))
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    locked = ast.literal_eval(values["PYTHONS"])
    text = (FOLDER / "pythons.py").read_text(encoding="utf-8")
    told = re.search(r"^OLDEST, NEWEST = \((\d+), (\d+)\), \((\d+), (\d+)\)$", text, re.MULTILINE)
    assert told is not None
    assert f"{told[1]}.{told[2]}" == locked[0]
    assert f"{told[3]}.{told[4]}" == locked[-1]
