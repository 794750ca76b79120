"""Fixtures of the QGIS tests. They run in an environment of their own: ``tools/qgis_tests.sh``.

Where ``qgis`` cannot be imported (the engine's environment) only ``test_qgis_here.py`` is collected: it says so.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _qgis_is_there() -> bool:
    try:
        return importlib.util.find_spec("qgis.core") is not None
    except ImportError:
        return False


if not _qgis_is_there():
    collect_ignore_glob = ["test_qgis_[!h]*.py"]
else:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path[:0] = [str(ROOT), "/usr/share/qgis/python/plugins"]


@pytest.fixture(scope="session")
def engine_python() -> str:
    """The engine's Python, or a visible skip."""
    path = os.environ.get("MALICE_ENGINE_PYTHON") or str(ROOT / ".venv" / "bin" / "python")
    if not os.path.exists(path):
        pytest.skip(f"there is no engine ({path}): make setup, or set MALICE_ENGINE_PYTHON")
    return path


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, engine_python: str) -> Path:
    """``malice_qgis-VERSION.zip``, as ``make package`` writes it."""
    asked = [engine_python, "-I", "-c", "import build, setuptools"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip(f"{engine_python} has no build or setuptools: make setup")
    folder = tmp_path_factory.mktemp("dist")
    command = ["bash", "tools/plugin.sh", "package", str(folder)]
    environment = {**os.environ, "MALICE_BUILD_PYTHON": engine_python}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if "lrelease is missing" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("malice_qgis-*.zip")
    return found


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory, engine_python: str) -> Path:
    """Models of random weights (``models``: tiny, ``more``: aux, which is MALICE Aux) and small series: ``S2``, ``S1``,
    ``mid`` and ``big`` (long to compute), ``undated``."""
    from helpers_qgis import make_scene

    return make_scene(tmp_path_factory.mktemp("scene"), engine_python)


@pytest.fixture(scope="session")
def years(tmp_path_factory: pytest.TempPathFactory, scene: Path, engine_python: str) -> Path:
    """``before.tif`` and ``after.tif``: two embeddings of the same place; ``other.tif``: of other queries."""
    from helpers_qgis import command_line

    folder = tmp_path_factory.mktemp("years")
    for name, days, queries in (
        ("before", "2018-01-05/2018-01-25", "0"),
        ("after", "2018-01-15/2018-02-04", "0"),
        ("other", "2018-01-05/2018-01-25", "1"),
    ):
        options = ("--s2", scene / "S2", "--dates", days, "--queries", queries)
        command_line(engine_python, scene, *options, "--output", folder / f"{name}.tif")
    return folder


@pytest.fixture
def engine(engine_python: str, scene: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine as the plugin finds it, with the model ``tiny``."""
    from qgis.core import QgsSettings

    QgsSettings().remove("malice/enginePython")
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", engine_python)
    monkeypatch.setenv("MALICE_MODELS", str(scene / "models"))
    return engine_python


@pytest.fixture
def provider(qgis_app: object, qgis_processing: object, engine: str):
    """The provider in the registry, as the plugin registers it."""
    import malice_qgis
    from qgis.core import QgsApplication

    plugin = malice_qgis.classFactory(None)
    plugin.initProcessing()
    yield QgsApplication.processingRegistry().providerById("malice")
    plugin.unload()


@pytest.fixture
def context(qgis_app: object):
    """A context with the project, which is empty again afterwards."""
    from qgis.core import QgsProcessingContext, QgsProject

    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    yield context
    # pytest keeps the context until after the last test, when QGIS is gone and its layers cannot be closed any more.
    context.temporaryLayerStore().removeAllMapLayers()
    QgsProject.instance().clear()


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An isolated QGIS profile with the plugin deployed and enabled."""
    from helpers_qgis import deploy

    return deploy(tmp_path_factory.mktemp("profile"))


@pytest.fixture
def shell(profile: Path, scene: Path, engine_python: str):
    """Runs ``qgis_process`` with the plugin: ``shell("run", "malice:embed", "--", "INPUT_S2=…")``."""
    from helpers_qgis import Shell

    return Shell(profile, {"MALICE_ENGINE_PYTHON": engine_python, "MALICE_MODELS": str(scene / "models")})
