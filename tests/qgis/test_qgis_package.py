"""The zip: installed into a clean profile it is there, sets up its engine offline, and embeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest

from helpers_qgis import ROOT, Shell, one_line, wait_until
from helpers_setup import Kit, processes

#: The engine's packages as wheels for QGIS' Python: ``pip download -r malice_qgis/setup/engine.lock -d FOLDER``.
WHEELS = os.environ.get("MALICE_WHEELS", "")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, engine_python: str) -> Path:
    """``malice_qgis-VERSION.zip``, as ``make package`` writes it."""
    asked = [engine_python, "-I", "-c", "import build, setuptools"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip(f"{engine_python} has no build or setuptools: make setup")
    folder = tmp_path_factory.mktemp("dist")
    command = ["bash", "tools/plugin.sh", "package", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "MALICE_BUILD_PYTHON": engine_python}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("malice_qgis-*.zip")
    return found


def unzipped(archive: Path, profile: Path) -> Shell:
    """``qgis_process`` in a new profile, with the plugin out of the zip; no engine is named to it."""
    plugins = profile / "profiles" / "default" / "python" / "plugins"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(plugins)
    settings = profile / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text("[PythonPlugins]\nmalice_qgis=true\n", encoding="utf-8")
    shell = Shell(profile, {"XDG_DATA_HOME": str(profile / "data")})
    for name in ("MALICE_ENGINE_PYTHON", "MALICE_MODELS"):
        shell.environment.pop(name, None)
    return shell


def home(profile: Path) -> Path:
    """The plugin's data folder in a profile."""
    return profile / "profiles" / "default" / "malice"


def test_the_zip_holds_what_it_should(archive: Path) -> None:
    assert archive.stat().st_size <= 25_000_000
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        (wheel,) = [name for name in names if name.endswith(".whl")]
        with zipfile.ZipFile(opened.open(wheel)) as engine:
            inside = engine.namelist()
    for name in ("metadata.txt", "LICENSE", "icons/malice.png", "setup/engine.lock", "setup/engine-cuda.lock"):
        assert f"malice_qgis/{name}" in names
    assert not [name for name in names if name.endswith((".pyc", ".toml")) or "/tests/" in name]
    assert any(name.endswith("share/malice/models/malice-sim/model.json") for name in inside)
    assert any(name.endswith("share/malice/models/malice-aux-sim/s2_spatial.onnx") for name in inside)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "malice_core").rglob("*.py")}
    assert modules <= set(inside)


def test_a_clean_profile_shows_the_plugin_and_says_what_to_do(archive: Path, tmp_path: Path) -> None:
    shell = unzipped(archive, tmp_path)
    listed = shell("list").stdout
    assert "malice:embed" in listed
    assert "malice:setup" in listed
    refused = shell("run", "malice:embed", "--", f"FOLDER_S2={tmp_path}", f"OUTPUT={tmp_path / 'e.tif'}")
    assert refused.returncode == 1
    assert "malice:setup" in one_line(refused.stderr)


def test_a_killed_qgis_leaves_no_process_and_the_old_engine(archive: Path, tmp_path: Path) -> None:
    """With tiny packages in place of the real ones."""
    shell = unzipped(archive, tmp_path)
    kit = Kit(tmp_path / "kit")
    plugin = tmp_path / "profiles" / "default" / "python" / "plugins" / "malice_qgis"
    shutil.copy(kit.lock, plugin / "setup" / "engine.lock")
    shutil.rmtree(plugin / "engine_source")
    shutil.copytree(kit.source, plugin / "engine_source")
    run = ("run", "malice:setup", "--", f"WHEELS={kit.wheels}")
    done = shell(*run, "ACTION=install")
    assert done.returncode == 0, done.stderr
    engines = home(tmp_path) / "engine"
    process = shell.start(*run, "ACTION=repair")
    wait_until(lambda: processes(str(engines / "2")), 30)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not processes(str(engines)), 2)
    assert (engines / "current").read_text(encoding="ascii").strip() == "1"
    assert "VERSION:\t9.1" in shell("run", "malice:setup", "--", "ACTION=check").stdout
    done = shell(*run, "ACTION=repair")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted(engines.iterdir()) if path.is_dir()] == ["2"]
    done = shell("run", "malice:setup", "--", "ACTION=remove")
    assert done.returncode == 0, done.stderr
    assert [path for path in engines.iterdir() if path.is_dir()] == []


@pytest.mark.acceptance
@pytest.mark.skipif(not WHEELS, reason="MALICE_WHEELS is not set: a folder of wheels for engine.lock")
def test_from_the_zip_to_an_embedding_without_a_network(archive: Path, tmp_path: Path, engine_python: str) -> None:
    shell = unzipped(archive, tmp_path / "a profile")
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        shell.environment[name] = "http://127.0.0.1:9"
    done = shell("run", "malice:setup", "--", "ACTION=install", f"WHEELS={WHEELS}")
    assert done.returncode == 0, done.stderr
    assert "computes on openvino (cpu), onnxruntime (cpu)" in done.stdout
    scene = tmp_path / "scene"
    python = home(tmp_path / "a profile") / "engine" / "1" / "bin" / "python"
    simulate = [python, "-I", "-m", "malice_core.simulate", "--size", "48", "--s2-dates", "4", "--s1-dates", "0"]
    subprocess.run([*map(str, simulate), str(scene)], check=True, capture_output=True)
    output = tmp_path / "e.tif"
    done = shell("run", "malice:embed", "--", f"FOLDER_S2={scene / 'S2'}", f"OUTPUT={output}", "QUERIES=0")
    assert done.returncode == 0, done.stderr
    assert "model malice-sim" in done.stdout + done.stderr
    assert output.stat().st_size > 0
