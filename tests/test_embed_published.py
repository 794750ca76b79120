"""The engine against the published graphs run on whole rasters, on real data (``--edge published``)."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers_embed import Array, day_of, embedded, link, normalised, published, run, years_later

#: Bound of the project's acceptance, absolute; embeddings span about -1.2 … 2.5.
TOLERANCE = 2e-5
FOLDERS = {"s2": "S2", "s1": "S1_10m"}


def site(testdata: Path, sensor: str, year: str = "2018") -> list[Path]:
    return sorted((testdata / "data" / "site_a" / FOLDERS[sensor]).glob(f"*_{year}*.tif"))


def check(testdata: Path, sensor: str, files: list[Path], output: Array) -> None:
    expected = published(testdata, sensor, files, [day_of(path) for path in files])
    assert output.shape == expected.shape
    assert np.abs(output - expected).max() < TOLERANCE


@pytest.mark.parametrize("sensor", ["s2", "s1"])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_eight_dates(testdata: Path, malice: str, tmp_path: Path, sensor: str, runtime: str, everywhere: str) -> None:
    if everywhere == "cuda" and runtime == "openvino":
        pytest.skip("OpenVINO has no CUDA device")
    files = site(testdata, sensor)[::12][:8]
    folder = link(files, tmp_path / "images")
    output = embedded(
        *(tmp_path / "e.tif", f"--{sensor}", folder, "--model", malice, "--edge", "published"),
        *("--runtime", runtime, "--device", everywhere),
    )
    check(testdata, sensor, files, output)


@pytest.mark.acceptance
@pytest.mark.parametrize("sensor", ["s2", "s1"])
@pytest.mark.parametrize("block", [None, 16])
def test_all_dates_of_2018(testdata: Path, malice: str, tmp_path: Path, sensor: str, block: int | None) -> None:
    files = site(testdata, sensor)
    folder = link(files, tmp_path / "images")
    # The lattice's blocks cut the raster; 64 x 64 pixels are one block by default.
    sides = ["--block", block] if block else []
    output = embedded(tmp_path / "e.tif", f"--{sensor}", folder, "--model", malice, "--edge", "published", *sides)
    check(testdata, sensor, files, output)


@pytest.mark.acceptance
@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_all_dates_moved_to_2026(testdata: Path, malice: str, tmp_path: Path, sensor: str) -> None:
    files = site(testdata, sensor)
    folder = link(files, tmp_path / "images", lambda name: years_later(name, 8))
    arguments = ["--model", malice, "--edge", "published", "--s2-offset", "0"]
    output = embedded(tmp_path / "e.tif", f"--{sensor}", folder, *arguments)
    moved = sorted(folder.iterdir())
    assert day_of(moved[-1]).year == 2026
    check(testdata, sensor, moved, output)


@pytest.mark.acceptance
def test_cloudy_dates_are_dropped_by_their_share(testdata: Path, malice: str, tmp_path: Path) -> None:
    files = site(testdata, "s2")
    folder = link(files, tmp_path / "images")
    classes = testdata / "data" / "site_a" / "SCL"
    output = tmp_path / "e.tif"
    arguments = ["--s2", folder, "--model", malice, "--edge", "published", "--scl", classes, "--max-cloud", 30]
    values = embedded(output, *arguments)
    kept = []
    for path in files:
        with rasterio.open(classes / path.name.replace("S2_", "SCL_")) as file:
            scl = file.read(1)
        if 100 * np.isin(scl, (3, 8, 9, 10)).sum() / (scl != 0).sum() <= 30:
            kept.append(path)
    assert 20 < len(kept) < len(files)
    with rasterio.open(output) as file:
        assert file.tags()["MALICE_DATES_S2"].split(",") == [day_of(path).isoformat() for path in kept]
    check(testdata, "s2", kept, values)


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_the_torch_encoder_agrees_with_the_engine(testdata: Path, malice: str, tmp_path: Path, sensor: str) -> None:
    torch = pytest.importorskip("torch")
    from test_training_encoder import from_canonical

    from malice_core.store.published import read

    files = site(testdata, sensor)[5::12][:8]
    folder = link(files, tmp_path / "images")
    output = embedded(tmp_path / "e.tif", f"--{sensor}", folder, "--model", malice, "--edge", "published")
    stats = json.loads((testdata / "spec" / "stats.json").read_text())["malice"]
    images = torch.from_numpy(normalised(files, sensor, stats))[None]
    days = torch.tensor([[(day_of(path) - date(2014, 3, 3)).days for path in files]], dtype=torch.float32)
    encoder = from_canonical(read(testdata / "models" / f"malice_{sensor}.onnx").weights, sensor)
    with torch.no_grad():
        expected = encoder(sensor, images, days, torch.zeros(days.shape, dtype=torch.bool))
    assert np.abs(output - expected[0].reshape(output.shape).numpy()).max() < 1e-5


@pytest.mark.parametrize("edge", ["mirror", "published"])
def test_mirrored_edges_remove_the_garbage_frame_of_s1(testdata: Path, malice: str, tmp_path: Path, edge: str) -> None:
    folder = link(site(testdata, "s1")[::3][:40], tmp_path / "images")
    output = embedded(tmp_path / "e.tif", "--s1", folder, "--model", malice, "--edge", edge)
    inner = output[:, 16:48, 16:48]
    mean, spread = (f(inner, axis=(1, 2))[:, None, None] for f in (np.mean, np.std))
    z = (np.abs(output - mean) / spread).mean(axis=0)
    ring = np.concatenate([z[0], z[-1], z[1:-1, 0], z[1:-1, -1]]).mean()
    if edge == "mirror":
        assert ring < 1.5
    else:
        assert ring > 3  # what the published behaviour costs, and what this test must be able to see


def test_the_plan_names_what_it_found(testdata: Path, malice: str, tmp_path: Path) -> None:
    folder = link(site(testdata, "s2")[::12][:5], tmp_path / "images")
    recorder = run("--s2", folder, "--model", malice, "--output", tmp_path / "e.tif", dry_run=True)
    plan = recorder.plans[0]
    assert (plan["width"], plan["height"], plan["bands"], plan["crs"]) == (64, 64, 640, "EPSG:32631")
    assert plan["bounds"] == [501360.0, 5629040.0, 502000.0, 5629680.0]
    assert "S2 2018-01-11" in plan["text"]
    assert not (tmp_path / "e.tif").exists()
