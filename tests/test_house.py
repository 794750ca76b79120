"""The house: versions agree, modules say what they are for, inference needs no torch, make has its targets."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import malice_core

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for folder in ("malice_core", "malice_qgis", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
)
#: The only modules that may import torch.
TRAINING = ("malice_core.training", "malice_core.pretrain", "malice_core.finetune", "malice_core.export")
INFERENCE = [
    name
    for name in (
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if path.is_relative_to(ROOT / "malice_core")
    )
    if not name.startswith(TRAINING)
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text
    assert len(text) > 10


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def test_versions_agree() -> None:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(ROOT / "metadata.txt", encoding="utf-8")
    assert metadata["general"]["version"] == malice_core.__version__
    latest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert latest is not None
    assert latest[1] == malice_core.__version__


def test_the_plugin_metadata_is_complete() -> None:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(ROOT / "metadata.txt", encoding="utf-8")
    general = metadata["general"]
    for key in ("name", "description", "about", "author", "email", "tracker", "repository", "homepage", "tags", "icon"):
        assert general[key].strip(), key
    assert general["qgisMinimumVersion"] == "3.22"
    assert general["qgisMaximumVersion"] == "4.99"
    assert general["hasProcessingProvider"] == "True"
    # plugins.qgis.org wants what a plugin fetches told before it is installed.
    for key in ("about", "about[fr]"):
        assert re.search(r"200 M[Bo]\b.*PyPI", general[key]), key
    told = general["changelog"].lower().replace("-", "")
    algorithms = re.findall(r"from \.algorithms\.(\w+) import", (ROOT / "malice_qgis" / "provider.py").read_text())
    assert len(algorithms) > 10
    assert [name for name in algorithms if name not in told] == []


def test_every_dependency_has_a_range_and_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    for requirement in wanted:
        if requirement.startswith("malice-core["):
            continue
        assert re.match(r"[\w.-]+>=[\d.]+,<[\d.]+", requirement), f"{requirement} has no range"
        (line,) = [line for line in text.splitlines() if f'"{requirement}"' in line]
        assert re.search(r"#\s*\S+", line), f"{requirement} has no comment"


def test_make_has_the_targets_and_help_names_them() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    build = ("setup", "docs", "translate", "lock", "package", "validate", "deploy", "clean")
    for target in (*build, "demo", "test", "acceptance", "lint", "bench"):
        assert re.search(rf"^{target}:.*## \S", text, re.MULTILINE), target


def test_shell_scripts_are_sound_and_executable() -> None:
    for script in (ROOT / ".ci" / "run", ROOT / "tools" / "setup.sh"):
        assert script.stat().st_mode & 0o111
        subprocess.run(["bash", "-n", f"{script}"], check=True)


def test_inference_imports_no_torch() -> None:
    """In a process where torch and its companions cannot be imported, everything outside training can."""
    program = (
        "import importlib, sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'lightning', 'hydra', 'omegaconf', 'matplotlib', 'sklearn'):\n"
        "            raise ImportError(f'{name} is blocked')\n"
        "sys.meta_path.insert(0, Block())\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
    )
    assert "malice_core.models" in INFERENCE
    done = subprocess.run(
        [sys.executable, "-c", program, *INFERENCE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_demo_needs_nothing_but_what_ships(tmp_path: Path) -> None:
    """No model installed, no test data, no network: the demo works all the same, and says with which model."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    environment = {
        "PATH": "",
        "PYTHONPATH": f"{ROOT}",
        "HOME": f"{tmp_path}",
        "XDG_DATA_HOME": f"{tmp_path}",
        "https_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    if (ROOT / "models" / "malice").is_dir():
        pytest.skip("a model is installed in this checkout")
    command = [sys.executable, "-m", "malice_core.demo", "--out", "demo", "--size", "48", "--s2-dates", "4"]
    done = subprocess.run(
        [*command, "--s1-dates", "3"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "model malice-sim" in done.stdout
    assert "trained on simulated scenes" in done.stderr
    assert (tmp_path / "demo" / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_draws_an_embedding(tmp_path: Path) -> None:
    """On a made-up embedding with a corner of nodata and a scale a band, as int16 outputs have."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    import numpy as np
    import rasterio
    from affine import Affine

    from malice_core import demo, simulate

    scene = tmp_path / "scene"
    simulate.write(simulate.Spec(height=40, width=40, s2_dates=4, s1_dates=0), scene)
    rng = np.random.default_rng(0)
    values = rng.integers(-900, 900, (12, 40, 40)).astype(np.int16)
    values[:, :5, :6] = -32768
    profile = {"driver": "GTiff", "dtype": "int16", "count": 12, "height": 40, "width": 40, "nodata": -32768}
    with rasterio.open(tmp_path / "e.tif", "w", transform=Affine(10, 0, 0, 0, -10, 0), **profile) as target:
        target.write(values)
        target.scales, target.offsets = [0.01] * 12, [0.5] * 12
        target.descriptions = [f"{sensor}_Q00F{i:02d}" for sensor in ("S2", "S1") for i in range(6)]
    share, image = demo._components(tmp_path / "e.tif", "S1_")
    assert image.shape == (3, 40, 40)
    assert np.isnan(image[:, :5, :6]).all()
    assert np.isfinite(image[:, 6:]).all()
    assert 0.5 < share < 0.7  # three of six equal components
    assert 3 < image[0, 6:].std() < 8  # uniform numbers of -9 to 9
    demo.draw(scene, tmp_path / "e.tif", tmp_path / "demo.png")
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
