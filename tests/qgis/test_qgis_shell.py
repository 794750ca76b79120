"""Black-box runs of qgis_process: the same numbers as the engine's shell, one line for what is wrong, no orphans."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers_qgis import ROOT, Shell, command_line, engines, fake_engine, one_line, pixels, wait_until


def test_layers_give_the_numbers_of_the_command_line(
    shell: Shell, scene: Path, tmp_path: Path, engine_python: str
) -> None:
    layers = [f"INPUT_S2={path}" for path in sorted((scene / "S2").glob("*.tif"))]
    layers += [f"INPUT_S1={path}" for path in sorted((scene / "S1").glob("*.tif"))]
    done = shell("--json", "run", "malice:embed", "--", "MODEL=tiny", *layers, f"OUTPUT={tmp_path / 'q.tif'}")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout[done.stdout.index("{") :])["results"]
    assert results["OUTPUT"] == str(tmp_path / "q.tif")
    command_line(engine_python, scene, "--s2", scene / "S2", "--s1", scene / "S1", "--output", tmp_path / "s.tif")
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")


def test_a_folder_and_options_give_the_numbers_of_the_command_line(
    shell: Shell, scene: Path, tmp_path: Path, engine_python: str
) -> None:
    done = shell.embed(
        f"FOLDER_S2={scene / 'S2'}",
        "DATE_FROM=2018-01-10",
        "DATE_TO=2018-01-31",
        "EXTENT=500050,500300,5599700,5599950 [EPSG:32631]",
        "QUERIES=0,3",
        "DTYPE=int16",
        "FORMAT=cog",
        "NODATA=zero",
        "BLOCK=16",
        "THREADS=1",
        f"COUNTS={tmp_path / 'c.tif'}",
        f"PLAN={tmp_path / 'plan.html'}",
        f"OUTPUT={tmp_path / 'q.tif'}",
    )
    assert done.returncode == 0, done.stderr
    command_line(
        engine_python,
        scene,
        *("--s2", scene / "S2", "--dates", "2018-01-10/2018-01-31", "--queries", "0,3", "--dtype", "int16"),
        *("--aoi", "500050", "5599700", "500300", "5599950", "--nodata", "zero", "--output", tmp_path / "s.tif"),
        *("--counts", tmp_path / "sc.tif"),
    )
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")
    assert pixels(tmp_path / "c.tif") == pixels(tmp_path / "sc.tif")
    page = (tmp_path / "plan.html").read_text(encoding="utf-8")
    assert "2018-01-15" in page
    assert "S2 2018-01-05" not in page


def test_real_images(
    shell: Shell, testdata: Path, tmp_path: Path, engine_python: str, scene: Path, profile: Path
) -> None:
    """Both sensors of a real place, some dates, as layers and as folders."""
    site = testdata / "data" / "site_a"
    window = ["DATE_FROM=2018-04-01", "DATE_TO=2018-05-15", "QUERIES=0"]
    done = shell.embed(
        f"FOLDER_S2={site / 'S2'}", f"FOLDER_S1={site / 'S1_10m'}", *window, f"OUTPUT={tmp_path / 'f.tif'}"
    )
    assert done.returncode == 0, done.stderr
    layers = [f"INPUT_S2={path}" for path in sorted((site / "S2").glob("*.tif"))]
    layers += [f"INPUT_S1={path}" for path in sorted((site / "S1_10m").glob("*.tif"))]
    done = shell.embed(*layers, *window, f"OUTPUT={tmp_path / 'l.tif'}")
    assert done.returncode == 0, done.stderr
    command_line(
        engine_python,
        scene,
        *("--s2", site / "S2", "--s1", site / "S1_10m", "--dates", "2018-04-01/2018-05-15", "--queries", "0"),
        *("--output", tmp_path / "s.tif"),
    )
    assert pixels(tmp_path / "f.tif") == pixels(tmp_path / "l.tif") == pixels(tmp_path / "s.tif")


@pytest.mark.acceptance
def test_the_published_networks_on_all_real_images(
    profile: Path, testdata: Path, tmp_path: Path, engine_python: str
) -> None:
    """Both sensors, all dates of two summers, clouds left out: layers, folders and the command line are one."""
    site, models = testdata / "data" / "site_a", tmp_path / "models"
    encoders = [str(testdata / "models" / f"malice_{sensor}.onnx") for sensor in ("s2", "s1")]
    subprocess.run(
        [engine_python, "-I", "-m", "malice_core.models", "import", *encoders, "--name", "malice"],
        env={**os.environ, "MALICE_MODELS": str(models)},
        check=True,
        capture_output=True,
    )
    shell = Shell(profile, {"MALICE_ENGINE_PYTHON": engine_python, "MALICE_MODELS": str(models)})
    folders = [f"FOLDER_S2={site / 'S2'}", f"FOLDER_S1={site / 'S1_10m'}", f"FOLDER_SCL={site / 'SCL'}"]
    done = shell.embed("MODEL=malice", *folders, f"OUTPUT={tmp_path / 'f.tif'}")
    assert done.returncode == 0, done.stderr
    images = {"INPUT_S2": "S2", "INPUT_S1": "S1_10m", "SCL": "SCL"}
    layers = [f"{name}={path}" for name, folder in images.items() for path in sorted((site / folder).glob("*.tif"))]
    done = shell.embed("MODEL=malice", *layers, f"OUTPUT={tmp_path / 'l.tif'}")
    assert done.returncode == 0, done.stderr
    options = ("--s2", site / "S2", "--s1", site / "S1_10m", "--scl", site / "SCL", "--max-cloud", 30)
    command_line(engine_python, tmp_path, "--model", "malice", *options, "--output", tmp_path / "s.tif")
    assert pixels(tmp_path / "f.tif") == pixels(tmp_path / "l.tif") == pixels(tmp_path / "s.tif")


def test_without_a_model_the_engine_takes_the_one_that_is_installed(shell: Shell, scene: Path, tmp_path: Path) -> None:
    for given in ((), ("MODEL=",)):
        output = tmp_path / "e.tif"
        done = shell(
            *("run", "malice:embed", "--", f"FOLDER_S2={scene / 'S2'}", "QUERIES=0", *given, f"OUTPUT={output}"),
            XDG_DATA_HOME=str(tmp_path / "data"),
        )
        assert done.returncode == 0, done.stderr
        assert "# model      tiny" in done.stdout
        output.unlink()


def test_parameters_as_json(shell: Shell, scene: Path, tmp_path: Path, engine_python: str) -> None:
    version = re.search(r"QGIS (\d+)\.(\d+)", shell("--version").stdout)
    assert version
    if (int(version[1]), int(version[2])) < (3, 24):
        pytest.skip(f"qgis_process of {version[0]} takes no parameters on stdin")
    images = sorted(map(str, (scene / "S2").glob("*.tif")))
    done = shell.json({"INPUT_S2": images, "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(tmp_path / "q.tif")})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]["OUTPUT"] == str(tmp_path / "q.tif")
    command_line(engine_python, scene, "--s2", scene / "S2", "--queries", "0", "--output", tmp_path / "s.tif")
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ([], "Nothing is chosen"),
        (["FOLDER_S2=/nowhere"], "/nowhere"),
        (["FOLDER_S2={scene}/S2", "DATE_FROM=2018-13-01"], "DATE_FROM"),
        (["FOLDER_S2={scene}/S2", "DATE_FROM=2019-01-01", "DATE_TO=2018-01-01"], "swap"),
        (["FOLDER_S2={scene}/S2", "DATE_FROM=2020-01-01"], "2018-01-05"),
        (["FOLDER_S2={scene}/S2", "FOLDER_SCL={scene}/nothing"], "nothing"),
        (["FOLDER_S1={scene}/S1", "FOLDER_SCL={scene}/S2"], "Sentinel-2"),
        (["FOLDER_S2={scene}/S2", "MAX_CLOUD=50"], "scene classification"),
        (["FOLDER_S2={scene}/S2", "MODEL=unknown"], "unknown is not installed"),
        (["FOLDER_S2={scene}/S2", "QUERIES=first"], "first"),
        (["FOLDER_S2={scene}/S2", "QUERIES=0,77"], "QUERIES 77"),
        (["FOLDER_S2={scene}/S2", "MEMORY=much"], "much"),
        (["FOLDER_S2={scene}/S2", "MEMORY=10MB"], "too little"),
        (["FOLDER_S2={scene}/S2", "BLOCK=12"], "multiple of 8"),
        (["FOLDER_S2={scene}/S2", "BLOCK=much"], "BLOCK 'much' is not a whole number from 8 to"),
        (["FOLDER_S2={scene}/S2", "THREADS=1.5"], "THREADS '1.5' is not a whole number from 1 to"),
        (["FOLDER_S2={scene}/S2", "MAX_CLOUD=60%"], "MAX_CLOUD '60%' is not a number from 0 to 100"),
        (["FOLDER_S2={scene}/S2", "DATE_FROM=2018-01-05soon"], "is no date"),
        (["FOLDER_S2={scene}/S2", "EXTENT=500050,500300,5599700,5599950 [EPSG:99999]"], "EPSG:99999"),
        (["FOLDER_S2={scene}/S2", "EXTENT=500050,500300,5599700,5599950 [MY:1]"], "the CRS 'MY:1' is not known"),
        (["INPUT_S2=--help"], "--help"),
        (["FOLDER_S2={scene}/S2", "RESUME=maybe"], "RESUME 'maybe' is neither"),
        (["FOLDER_S2={scene}/S2", "EXTENT=inf,-inf,0,1 [EPSG:32631]"], "EXTENT has no area"),
        (["FOLDER_S2={scene}/S2", f"QUERIES={'x' * 5000}"], "x…' is no list"),
        (["FOLDER_S2={scene}/S2", f"OUTPUT={{tmp}}/{'n' * 240}.tif"], "the name is too long"),
        (["FOLDER_S2={scene}/S2", "EDGE=wrap"], "EDGE"),
        (["FOLDER_S2={scene}/S2", "DTYPE=float64"], "DTYPE"),
        (["FOLDER_S2={scene}/S2", "EXTENT=0,100,0,100"], "lies outside"),
        (["FOLDER_S2={scene}/S2", "OUTPUT={tmp}/no/folder/e.tif"], "does not exist"),
        (["FOLDER_S2={scene}/S2", "OUTPUT={tmp}/e.png"], "tif"),
        (["FOLDER_S2={scene}/S2", "COUNTS={tmp}/e.tif"], "same file"),
        (["FOLDER_S2={scene}/S2", "PLAN={scene}/S2/S2_20180105.tif"], "ends in .html"),
        (["FOLDER_S2={scene}/S2", "PLAN={tmp}/no/plan.html"], "cannot be written"),
        (["FOLDER_S2={scene}/S2", "EXTENT=0,0,0,0"], "EXTENT has no area"),
        (["INPUT_S2={scene}/S2/S2_20180105.tif", "OUTPUT={scene}/S2/S2_20180105.tif"], "one of the inputs"),
        (["INPUT_S2={scene}/gone_20180101.tif"], "gone_20180101.tif"),
        (["INPUT_S2={scene}/undated/image a.tif"], "no date"),
        (["INPUT_S2={scene}/S1/S1_20180105.tif"], "S1_20180105.tif"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    shell: Shell, scene: Path, tmp_path: Path, parameters: list[str], says: str
) -> None:
    given = [text.format(scene=scene, tmp=tmp_path) for text in parameters]
    if not any(text.startswith("OUTPUT=") for text in given):
        given.append(f"OUTPUT={tmp_path / 'e.tif'}")
    before = {path: path.read_bytes() for path in (scene / "S2").iterdir()}
    done = shell.embed(*given)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert says in one_line(done.stderr), done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
    assert {path: path.read_bytes() for path in (scene / "S2").iterdir()} == before


def test_without_an_engine_the_algorithm_is_listed_and_says_what_to_do(
    shell: Shell, scene: Path, tmp_path: Path
) -> None:
    listed = shell("list", MALICE_ENGINE_PYTHON="/nowhere/python")
    assert "malice:embed" in listed.stdout
    output = tmp_path / "e.tif"
    done = shell.embed(f"FOLDER_S2={scene / 'S2'}", f"OUTPUT={output}", MALICE_ENGINE_PYTHON="/nowhere/python")
    assert done.returncode == 1
    assert "/nowhere/python" in done.stdout + done.stderr
    assert "malice:setup" in done.stdout + done.stderr
    assert not output.exists()


def test_make_deploy_keeps_the_users_settings(shell: Shell, scene: Path, tmp_path: Path, engine_python: str) -> None:
    """Into a profile that is used, with a path that an ini file must quote; twice."""
    home = tmp_path / "Ä, b"
    settings = home / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        "[PythonPlugins]\nother=true\nmalice_qgis=false\n\n[qgis]\ncheckVersion=false\n", encoding="utf-8"
    )
    checkout = tmp_path / "Ä, b" / "checkout"
    for name in ("malice_core", "malice_qgis", "models", "tools"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("metadata.txt", "LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{engine_python}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    for _ in range(2):
        subprocess.run(
            ["bash", "tools/plugin.sh", "deploy"],
            cwd=checkout,
            env={**os.environ, "PROFILE": str(home / "profiles" / "default")},
            check=True,
            capture_output=True,
        )
    text = settings.read_text(encoding="utf-8")
    assert text.count("malice_qgis=true") == text.count("other=true") == text.count("checkVersion=false") == 1
    done = shell.embed(
        f"FOLDER_S2={scene / 'S2'}",
        "QUERIES=0",
        f"OUTPUT={tmp_path / 'e.tif'}",
        QGIS_CUSTOM_CONFIG_PATH=str(home),
        MALICE_ENGINE_PYTHON="/nowhere",
    )
    assert done.returncode == 0, done.stderr
    assert str(python) in done.stdout
    assert (tmp_path / "e.tif").exists()


@pytest.mark.parametrize("engines_numpy", [False, True])
def test_a_hostile_environment_changes_no_number(
    shell: Shell, scene: Path, tmp_path: Path, engine_python: str, engines_numpy: bool
) -> None:
    """Also with the engine's numpy 2 before that of QGIS, which breaks gdal_array on Debian 12."""
    foreign, told = tmp_path / "foreign", tmp_path / "environment.txt"
    (foreign / "malice_core").mkdir(parents=True)
    (foreign / "malice_core" / "__init__.py").write_text("raise SystemExit('hijacked')")
    recorder = fake_engine(tmp_path, f'env >>"{told}"\nexec "{engine_python}" "$@"\n')
    if engines_numpy:
        code = "import sys, numpy; print(*sys.version_info[:2], numpy.__path__[0], sep='\\n')"
        done = subprocess.run([engine_python, "-I", "-c", code], check=True, capture_output=True, text=True)
        major, minor, numpy = done.stdout.splitlines()
        if (int(major), int(minor)) != sys.version_info[:2]:
            pytest.skip(f"the engine's Python {major}.{minor} is not that of QGIS")
        for folder in (Path(numpy), Path(numpy + ".libs")):
            (foreign / folder.name).symlink_to(folder)
    done = shell.embed(
        f"FOLDER_S2={scene / 'S2'}",
        "EXTENT=500050,500300,5599700,5599950 [EPSG:32631]",
        f"OUTPUT={tmp_path / 'q.tif'}",
        MALICE_ENGINE_PYTHON=recorder,
        GDAL_DATA="/nonsense",
        PROJ_DATA="/nonsense",
        PROJ_LIB="/nonsense",
        LD_LIBRARY_PATH="/nonsense",
        PYTHONPATH=str(foreign),
        GDAL_DRIVER_PATH="/nonsense",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    aoi = ("--aoi", 500050, 5599700, 500300, 5599950)
    command_line(engine_python, scene, "--s2", scene / "S2", *aoi, "--output", tmp_path / "s.tif")
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")
    reached = told.read_text(encoding="utf-8")
    assert "PATH=" in reached
    assert "/nonsense" not in reached
    assert str(foreign) not in reached


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_qgis_that_is_ended_leaves_no_engine(shell: Shell, scene: Path, tmp_path: Path, how: signal.Signals) -> None:
    output = tmp_path / "e.tif"
    process = shell.start("run", "malice:embed", "--", "MODEL=tiny", f"FOLDER_S2={scene / 'big'}", f"OUTPUT={output}")
    wait_until(lambda: (tmp_path / "e.tif.malice" / "job.json").exists(), 60)
    assert engines(output)
    process.send_signal(how)
    took = wait_until(lambda: not engines(output), 3)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert not output.exists()
    print(f"{how.name}: the engine ended after {took:.2f} s")


@pytest.mark.acceptance
def test_twenty_interrupts_at_random_moments(shell: Shell, scene: Path, tmp_path: Path) -> None:
    """QGIS loses a Ctrl-C while it starts its Python, before any plugin is loaded: people press it again."""
    choice = random.Random(3)
    output = tmp_path / "e.tif"
    arguments = ("run", "malice:embed", "--", "MODEL=tiny", f"FOLDER_S2={scene / 'big'}", f"OUTPUT={output}")
    for _ in range(20):
        process = shell.start(*arguments)
        time.sleep(choice.uniform(0.2, 6))
        works = bool(engines(output))
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=3)
        except subprocess.TimeoutExpired:
            assert not works, "a Ctrl-C that came while the engine worked was lost"
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
        wait_until(lambda: not engines(output), 3)
        assert not output.exists()
    done = shell.embed(f"FOLDER_S2={scene / 'big'}", "QUERIES=0", f"OUTPUT={output}")
    assert done.returncode == 0, done.stderr


def test_a_cancelled_run_is_gone_on_with(shell: Shell, scene: Path, tmp_path: Path, engine_python: str) -> None:
    output = tmp_path / "e.tif"
    arguments = (f"FOLDER_S2={scene / 'mid'}", "BLOCK=64", "QUERIES=0", f"OUTPUT={output}")
    process = shell.start("run", "malice:embed", "--", "MODEL=tiny", *arguments)
    wait_until(lambda: len(list((tmp_path / "e.tif.malice").glob("*.block"))) > 2, 60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    wait_until(lambda: not engines(output), 3)
    done = shell.embed(*arguments, "RESUME=true")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "e.tif.malice").exists()
    command_line(engine_python, scene, "--s2", scene / "mid", "--queries", "0", "--output", tmp_path / "s.tif")
    assert pixels(output) == pixels(tmp_path / "s.tif")
