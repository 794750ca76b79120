"""Bad images, places and models: QGIS says what the engine's shell says, word for word, and leaves no file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from helpers_qgis import S2_BANDS, Shell, pixels, refusal, write_series

Make = Callable[[Path], None]


def unreadable(folder: Path) -> None:
    write_series(folder, 2, S2_BANDS)
    (folder / "S2_20180601.tif").write_bytes(b"II*\0 this is no image")


def truncated(folder: Path) -> None:
    write_series(folder, 2, S2_BANDS)
    path = folder / "S2_20180115.tif"
    path.write_bytes(path.read_bytes()[:300])


def without_a_band(folder: Path) -> None:
    write_series(folder, 2, S2_BANDS[:-1])


def undated(folder: Path) -> None:
    write_series(folder, 2, S2_BANDS)
    (folder / "S2_20180115.tif").rename(folder / "monday.tif")


def in_degrees(folder: Path) -> None:
    write_series(folder, 2, S2_BANDS, epsg=4326, transform=(3.0, 1e-4, 0, 50.0, 0, -1e-4))


def rotated(folder: Path) -> None:
    write_series(folder, 2, S2_BANDS, transform=(500000, 10, 2, 5600000, 2, -10))


def empty(folder: Path) -> None:
    folder.mkdir()


@pytest.mark.parametrize("make", [unreadable, truncated, without_a_band, undated, in_degrees, rotated, empty])
def test_folders_the_engine_refuses(shell: Shell, scene: Path, tmp_path: Path, engine_python: str, make: Make) -> None:
    make(tmp_path / "S2")
    options = ("--model", "tiny", "--output", tmp_path / "e.tif")
    sentence = refusal(engine_python, scene / "models", "--s2", tmp_path / "S2", *options)
    refuses(shell, tmp_path, sentence, f"FOLDER_S2={tmp_path / 'S2'}")


def refuses(shell: Shell, folder: Path, sentence: str, *parameters: str, **environment: str) -> None:
    """Runs in QGIS, and expects this sentence, code 1 and nothing new in ``folder``."""
    before = sorted(folder.rglob("*"))
    done = shell.embed(*parameters, f"OUTPUT={folder / 'e.tif'}", **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert sentence in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("units", ["decibels", "coded"])
def test_backscatter_in_other_units(shell: Shell, scene: Path, tmp_path: Path, engine_python: str, units: str) -> None:
    write_series(tmp_path / "S1", 3, ("VV", "VH"))
    for path in (tmp_path / "S1").iterdir():
        dataset = gdal.Open(str(path), gdal.GA_Update)
        for band in (1, 2):
            values = np.frombuffer(dataset.GetRasterBand(band).ReadRaster(), np.float32)
            values = 10 * np.log10(values.clip(0.01))
            values = 10 ** ((values + 83) / 20) if units == "coded" else values
            dataset.GetRasterBand(band).WriteRaster(0, 0, 48, 40, values.astype(np.float32).tobytes())
        dataset.FlushCache()
        del dataset
    options = ("--model", "tiny", "--output", tmp_path / "e.tif")
    sentence = refusal(engine_python, scene / "models", "--s1", tmp_path / "S1", *options)
    assert "gamma0" in sentence
    refuses(shell, tmp_path, sentence, f"FOLDER_S1={tmp_path / 'S1'}")


@pytest.mark.parametrize("name", ["worldcereal_preprocessed_inputs.nc", "gfmap_cdse_sentinel2_l2a.nc"])
def test_real_cubes_without_all_bands(
    shell: Shell, scene: Path, tmp_path: Path, engine_python: str, testdata: Path, name: str
) -> None:
    cube = testdata / "data" / "openeo_cubes" / name
    options = ("--model", "tiny", "--output", tmp_path / "e.tif")
    sentence = refusal(engine_python, scene / "models", "--s2", cube, *options)
    refuses(shell, tmp_path, sentence, f"INPUT_S2={cube}")


def test_a_file_that_is_gone_and_areas_and_models_that_are_not_there(
    shell: Shell, scene: Path, tmp_path: Path, engine_python: str
) -> None:
    models = scene / "models"
    end = ("--output", tmp_path / "e.tif")
    sentence = refusal(engine_python, models, "--s2", "/nowhere/S2_20180101.tif", "--model", "tiny", *end)
    refuses(shell, tmp_path, sentence, "INPUT_S2=/nowhere/S2_20180101.tif")
    sentence = refusal(engine_python, models, "--s2", scene / "S2", "--model", "tiny", "--aoi", 0, 0, 100, 100, *end)
    assert sentence.endswith(": choose another --aoi, or check --aoi-crs")
    sentence = sentence.replace("--aoi-crs", "the CRS of EXTENT").replace("--aoi", "EXTENT")
    refuses(shell, tmp_path, sentence, f"FOLDER_S2={scene / 'S2'}", "EXTENT=0,100,0,100")
    sentence = refusal(engine_python, models, "--s2", scene / "S2", "--model", "nothing", *end)
    command = "python -m malice_core.models install malice, or import FILE… --name nothing, gets one"
    assert command in sentence
    sentence = sentence.replace(command, "MALICE models (malice:models), ACTION install or import, gets one")
    refuses(shell, tmp_path, sentence, f"FOLDER_S2={scene / 'S2'}", "MODEL=nothing")


def test_a_damaged_graph(shell: Shell, scene: Path, tmp_path: Path, engine_python: str) -> None:
    shutil.copytree(scene / "models", tmp_path / "models")
    graph = next((tmp_path / "models" / "tiny").glob("*s2*spatial*"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    models = tmp_path / "models"
    sentence = refusal(engine_python, models, "--s2", scene / "S2", "--model", "tiny", "--output", tmp_path / "e.tif")
    assert "damaged" in sentence
    refuses(shell, tmp_path, sentence, f"FOLDER_S2={scene / 'S2'}", MALICE_MODELS=str(models))


def test_a_full_disk(shell: Shell, scene: Path, tmp_path: Path, engine_python: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: " + mounted.stderr.strip())
    try:
        refuses(shell, disk, "GB free", f"FOLDER_S2={scene / 'S2'}")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_one_date_and_another_crs_are_warned_of(shell: Shell, scene: Path, tmp_path: Path) -> None:
    # The place of the scene in the next UTM zone, with room around it.
    write_series(tmp_path / "S1", 2, ("VV", "VH"), 100, 100, 32632, (74800, 10, 0, 5617500, 0, -10))
    given = (f"FOLDER_S2={scene / 'S2'}", "DATE_TO=2018-01-05", "QUERIES=0")
    done = shell.embed(*given, f"OUTPUT={tmp_path / 'one.tif'}")
    assert done.returncode == 0, done.stderr
    assert "one date only" in done.stdout + done.stderr
    done = shell.embed(*given[::2], f"FOLDER_S1={tmp_path / 'S1'}", f"OUTPUT={tmp_path / 'two.tif'}")
    assert done.returncode == 0, done.stderr
    assert "32632" in done.stdout + done.stderr
    assert len(pixels(tmp_path / "two.tif")) > len(pixels(tmp_path / "one.tif"))
