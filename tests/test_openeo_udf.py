"""The UDF in openEO's own local runner: chunks agree with the engine however they come, and mistakes are one line."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_embed import embedded, write_series

from malice_core import simulate
from malice_core.errors import InputError, MaliceError
from malice_core.kernel import encoding
from malice_core.kernel.session import KernelSession

openeo = pytest.importorskip("openeo", reason="openeo is not installed: pip install 'malice-core[openeo]'")
xarray = pytest.importorskip("xarray")

from helpers_openeo import QUERIES, TOLERANCE, cube_of, embed, engine, largest, neighbourhoods, run  # noqa: E402

from malice_core import encoder, memory, openeo_udf, runtime  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has seen no chunk yet, with the models that ship."""
    monkeypatch.setattr(openeo_udf, "_kept", openeo_udf._Kept())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated scene whose first pixel lies on no block of 8 pixels."""
    folder = tmp_path_factory.mktemp("openeo") / "scene"
    simulate.write(simulate.Spec(height=190, width=190, s2_dates=3, s1_dates=2), folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openeo") / "small"
    simulate.write(simulate.Spec(height=36, width=43, s2_dates=5, s1_dates=3), folder)
    return folder


def both_of(folder: Path) -> Any:
    """Both sensors in one cube: labels are those of either, and nothing where a sensor has no image."""
    return xarray.concat([cube_of(folder / "S2"), cube_of(folder / "S1")], dim="bands", join="outer")


# --- agreement with the engine


@pytest.mark.parametrize("sensor", ["s2", "s1", "both"])
def test_chunks_have_no_seams_and_agree_with_the_engine(scene: Path, sensor: str) -> None:
    inputs = {"s2": ["--s2", scene / "S2"], "s1": ["--s1", scene / "S1"]}
    inputs["both"] = inputs["s2"] + inputs["s1"]
    whole = engine(scene, *inputs[sensor])
    cube = both_of(scene) if sensor == "both" else cube_of(scene / sensor.upper())
    row, col, size, count = 57, 59, 36, 1 if sensor == "both" else 2
    found = neighbourhoods(cube, (row, col), count, size, 56, model="malice-sim", queries=QUERIES)
    assert largest(found, whole[:, row : row + count * size, col : col + count * size]) < TOLERANCE


def test_a_small_overlap_is_told_and_costs_exactness(scene: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, cube = engine(scene, "--s1", scene / "S1"), cube_of(scene / "S1")
    where, context = (57, 59), {"model": "malice-sim", "queries": QUERIES}
    with caplog.at_level(logging.WARNING):
        found = neighbourhoods(cube, where, 2, 16, 24, **context)
    told = [record for record in caplog.records if "overlap" in record.getMessage()]
    assert [record.levelname for record in told] == ["WARNING"], "once, however many chunks"
    assert "overlap 24 is too small" in told[0].getMessage()
    assert "give 56 pixels" in told[0].getMessage()
    assert largest(found, whole[:, 57:89, 59:91]) > TOLERANCE

    caplog.clear()
    aligned = neighbourhoods(cube, (48, 56), 1, 16, 48, **context)
    assert "too small" not in caplog.text, "48 are enough on the grid of 8 pixels"
    assert largest(aligned, whole[:, 48:64, 56:72]) < TOLERANCE


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_a_whole_cube_is_the_whole_output(small: Path, sensor: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its ends too, where both mirror; without size and overlap all of a chunk is computed, and that is said."""
    folder = small / sensor.upper()
    cube = cube_of(folder)
    found = embed(cube)
    assert found.dims == ("bands", "y", "x")
    assert found.dtype == np.float32
    assert list(found.coords["bands"].values[[0, 63, 64, 127]]) == ["Q00F00", "Q00F63", "Q07F00", "Q07F63"]
    assert (found.coords["x"] == cube.coords["x"]).all()
    assert (found.coords["y"] == cube.coords["y"]).all()
    assert "give size and overlap" in caplog.text
    assert largest(found.values, engine(small, f"--{sensor}", folder)) < TOLERANCE


def test_all_queries_and_both_sensors_are_named_as_in_the_engine(small: Path) -> None:
    output = small.parent / "all.tif"
    whole = embedded(output, "--s2", small / "S2", "--s1", small / "S1", "--model", "malice-sim", "--overwrite")
    with rasterio.open(output) as file:
        names = list(file.descriptions)
    found = run(both_of(small), model="malice-sim")
    assert list(found.coords["bands"].values) == names
    assert len(names) == 1280
    assert largest(found.values, whole) < TOLERANCE


def test_where_the_service_pads_a_cube_its_extent_is_mirrored(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, cube = engine(small, "--s2", small / "S2"), cube_of(small / "S2")
    padded = cube.pad(y=(11, 9), x=(5, 13), constant_values=np.nan)
    for axis, step, before in (("y", -10, 11), ("x", 10, 5)):
        first = float(cube.coords[axis][0])
        padded = padded.assign_coords({axis: first + step * (np.arange(padded.sizes[axis]) - before)})
    x, y = cube.coords["x"].values, cube.coords["y"].values
    extent = [x[0] - 5, y[-1] - 5, x[-1] + 5, y[0] + 5]
    inside = (slice(None), slice(11, -9), slice(5, -13))
    found = embed(padded, extent=extent).values
    assert largest(found[inside], whole) < TOLERANCE
    assert np.isnan(found).all(axis=0).sum() == found[0].size - whole[0].size
    # Untold, what the service padded is missing data: no mirror, other numbers at the end.
    assert largest(embed(padded).values[inside], whole) > TOLERANCE
    assert np.isnan(embed(padded, extent=[extent[0] + 9000, extent[1], extent[2] + 9000, extent[3]])).all()
    assert "chunks outside of it are nodata" in caplog.text
    assert np.isnan(embed(cube[:0])).all()  # without a label along t


def test_missing_pixels_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 in all bands, NaN and 65535, in a cube as in files."""
    folder = write_series(tmp_path / "s2", (40, 33), 4, missing=0.3, origin=(500030.0, 5600050.0))
    first = sorted(folder.glob("*.tif"))[0]
    with rasterio.open(first, "r+") as file:
        values = file.read()
        values[:, :9, :9] = 0  # everywhere missing at least once
        values[3, 20:30, 20:30] = 65535  # in one band
        file.write(values)
    whole, cube = engine(folder, "--s2", folder), cube_of(folder, np.uint16)
    assert largest(embed(cube).values, whole) < TOLERANCE
    holes = cube.astype(np.float32)
    holes = holes.where(~((holes == 0).all("bands") | (holes == 65535).any("bands")))
    assert bool(np.isnan(holes).any())
    assert largest(embed(holes).values, whole) < TOLERANCE
    nothing = holes.where(holes.coords["x"] > float(holes.coords["x"][4]))
    assert np.isnan(embed(nothing).values[:, :, :5]).all()
    assert np.isnan(embed(holes.where(False))).all()


def test_a_band_scl_masks_clouds(small: Path) -> None:
    scl = cube_of(small / "SCL")
    cube = xarray.concat([cube_of(small / "S2"), scl], dim="bands")
    masked = engine(small, "--s2", small / "S2", "--scl", small / "SCL", "--mask-clouds")
    plain = engine(small, "--s2", small / "S2")
    assert np.nanmax(np.abs(masked - plain)) > 1e-3, "there are clouds, or this test sees nothing"
    assert largest(embed(cube).values, masked) < TOLERANCE
    assert largest(embed(cube, mask_clouds=False).values, plain) < TOLERANCE
    only = engine(small, "--s2", small / "S2", "--scl", small / "SCL", "--mask-clouds", "--cloud-classes", "9")
    assert largest(embed(cube, cloud_classes=[9]).values, only) < TOLERANCE


def test_the_offset_is_removed_and_suspected(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    cube = cube_of(small / "S2")
    later = cube.assign_coords(t=cube.coords["t"] + np.timedelta64(3653, "D"))
    shifted = xarray.where(later > 0, later + 1000, later).transpose("t", "bands", "y", "x")
    found = embed(shifted, s2_offset=-1000)
    assert "04.00" not in caplog.text
    assert largest(found.values, embed(later).values) < TOLERANCE
    assert "04.00" not in caplog.text
    embed(shifted)
    assert 'give "s2_offset": -1000' in caplog.text


# --- how cubes come


def test_the_shape_of_a_cube_does_not_matter(small: Path, tmp_path: Path) -> None:
    cube = cube_of(small / "S2")
    whole = embed(cube).values
    other = cube[:, ::-1].transpose("x", "bands", "y", "t")
    assert largest(embed(other).values, whole) == 0
    names = [f"S2-L2A-{name}" for name in cube.coords["bands"].values]
    labels = [f"{label}"[:19] + "Z" for label in cube.coords["t"].values]
    assert largest(embed(cube.assign_coords(bands=names, t=labels)).values, whole) == 0
    upside_down = embed(cube[:, :, ::-1])
    assert largest(upside_down.values[:, ::-1], whole) == 0
    assert upside_down.coords["y"].values[0] < upside_down.coords["y"].values[-1]
    assert largest(embed(cube[::-1]).values, whole) == 0, "labels in any order"
    # As the Spark service gives them: whole metres, but what is no multiple of half a metre is rounded.
    rounded = cube.assign_coords(x=cube.coords["x"].astype(np.float32), y=(cube.coords["y"] + 0.2).astype(np.float32))
    assert largest(embed(rounded).values, whole) == 0
    # A netCDF with a variable a band, as batch jobs return it, and other layers beside the bands.
    file = tmp_path / "cube.nc"
    cube.assign_coords(bands=names).to_dataset("bands").assign(elevation=cube[:, 0] * 0).to_netcdf(file)
    assert largest(embed(file).values, whole) == 0


def test_labels_of_one_day_are_one_observation(small: Path) -> None:
    cube = cube_of(small / "S2")
    left = cube.where(cube.coords["x"] < float(cube.coords["x"][20]))
    right = cube.where(cube.coords["x"] > float(cube.coords["x"][17]))
    right = right.assign_coords(t=cube.coords["t"] + np.timedelta64(11, "h"))
    halves = xarray.concat([left, right], dim="t").sortby("t")
    assert largest(embed(halves).values, embed(cube).values) == 0


def test_one_sensor_of_two_is_chosen(small: Path) -> None:
    cube = both_of(small)
    found = embed(cube, sensor="s1")
    assert found.sizes["bands"] == 128
    assert largest(found.values, embed(cube_of(small / "S1")).values) < TOLERANCE


def test_a_model_comes_as_a_folder_or_as_a_zip(small: Path, tmp_path: Path) -> None:
    cube = cube_of(small / "S1")
    whole = embed(cube).values
    folder = ROOT / "models" / "malice-sim"
    (tmp_path / "archive").mkdir()
    shutil.copytree(folder, tmp_path / "archive" / "any_name")
    archive = shutil.make_archive(str(tmp_path / "malice"), "zip", ROOT / "models", "malice-sim")
    for model in (folder, tmp_path / "archive", archive):
        found = run(cube, model=str(model), queries=QUERIES)
        assert largest(found.values, whole) == 0, model


# --- work


class Opened(list[int]):
    """How many graphs there are, the new one among them, whenever one has been opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        alive: weakref.WeakSet[Any] = weakref.WeakSet()
        original, kernel = runtime.Backend.open, KernelSession.__init__

        def count(session: Any) -> Any:
            alive.add(session)
            self.append(len(alive))
            return session

        def begin(session: KernelSession, *arguments: Any) -> None:
            kernel(session, *arguments)
            count(session)

        monkeypatch.setattr(runtime.Backend, "open", lambda *arguments: count(original(*arguments)))
        monkeypatch.setattr(KernelSession, "__init__", begin)


def test_graphs_are_compiled_once_and_forgotten_before_others(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = Opened(monkeypatch)
    cube = cube_of(small / "S1")
    first = embed(cube).values
    assert graphs == [1, 2]  # the spatial and the temporal graph
    assert largest(embed(cube).values, first) == 0
    assert graphs == [1, 2]
    fewer = embed(cube[:2]).values
    assert largest(fewer, first) > 1e-3
    embed(cube[1:])
    assert largest(embed(cube).values, first) == 0
    assert largest(embed(cube[:2]).values, fewer) == 0
    assert graphs == [1, 2] * 5, "more are held than were planned for"


def test_both_sensors_are_planned_together_and_kept(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, plans, spaces = Opened(monkeypatch), [], weakref.WeakSet()
    original, workspace = memory.fit, encoding.Workspace

    def fit(*arguments: Any, held: int) -> Any:
        # Embeddings of one sensor at a time, in float32.
        assert held == len(QUERIES) * 64 * 4
        plans.append((arguments[0].memory, arguments[4]))
        return original(*arguments, held=held)

    def space(elements: int, kind: Any = np.float32) -> Any:
        made = workspace(elements, kind)
        spaces.add(made)
        assert len(spaces) == 1
        return made

    monkeypatch.setattr(memory, "fit", fit)
    for module in (encoder, encoding):
        monkeypatch.setattr(module, "Workspace", space)
    cube = both_of(small)
    first = embed(cube, memory="1GB").values
    assert largest(embed(cube, memory="1GB").values, first) == 0
    assert plans == [(10**9, {"s2": 5, "s1": 3})] * 2
    assert graphs == [1, 2, 3, 4]
    embed(cube, memory="1GB", sensor="s1")
    assert plans[2:] == [(10**9, {"s1": 3})]
    assert graphs == [1, 2, 3, 4, 1, 2]


def test_blocks_within_a_chunk_do_not_show(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grids, original = [], memory.fit
    monkeypatch.setattr(memory, "fit", lambda *args, **kept: grids.append(original(*args, **kept)) or grids[-1])
    cube = cube_of(small / "S2")
    whole = embed(cube).values
    monkeypatch.setattr(memory, "SIDES", (16,))  # as where there is little memory for many dates
    assert largest(embed(cube).values, whole) < TOLERANCE
    assert [grid.core_shape for grid, _ in grids] == [(40, 48), (16, 16)]


def test_no_torch_is_imported() -> None:
    program = "import sys, malice_core.openeo_udf; sys.exit(any(name.split('.')[0] == 'torch' for name in sys.modules))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


# --- what can go wrong


@pytest.mark.parametrize(
    ("context", "wanted"),
    [
        ({"models": "x"}, "context: 'models' is none of model, sensor"),
        ({"sensor": "s3"}, "context: sensor is 's3', must be s2 or s1 or both"),
        ({"queries": "1"}, "context: queries is '1', must be a list of whole numbers"),
        ({"queries": [3, 3]}, "without a number twice"),
        ({"queries": [0, 10]}, "queries has 10: model malice-sim has queries 0 to 9"),
        ({"mask_clouds": 1}, "context: mask_clouds is 1, must be True or False"),
        ({"mask_clouds": True}, "mask_clouds: the cube has no band SCL"),
        ({"cloud_classes": [12]}, "context: cloud_classes 12: wanted are scene classes 1 to 11"),
        ({"s2_offset": 1000}, "context: s2_offset is 1000, must be 0 or -1000"),
        ({"size": 256}, "size and overlap go together"),
        ({"size": 256, "overlap": -1}, "context: overlap is -1, must be a whole number"),
        ({"extent": [1, 2, 0, 3]}, "must be \\[west, south, east, north\\]"),
        ({"precision": "int8"}, "context: precision is 'int8', must be float32 or bfloat16"),
        ({"memory": "much"}, "^context: memory much: write a size such as 2GB"),
        (
            {"memory": "200MB"},
            r"^context: memory 0\.2 GB is too little: blocks of 8 pixels with 5 dates need 0\.\d\d GB; give more, or "
            "fewer dates in load_collection$",
        ),
        (
            {"precision": "bfloat16", "runtime": "onnxruntime"},
            "^context: precision bfloat16 needs runtime openvino; onnxruntime computes float32 on a CPU$",
        ),
        ({"threads": 0}, "context: threads is 0, must be positive"),
        ({"model": "no_such.zip"}, "no_such.zip: no such folder or zip with a model"),
        ({"model": "no-such"}, "model no-such is not installed .*: give the folder or the zip of a model"),
        ({"model": "malice-aux-sim"}, "wants weather, terrain and angles, which a cube does not hold"),
    ],
)
def test_wrong_contexts_are_one_line(small: Path, context: dict[str, Any], wanted: str) -> None:
    with pytest.raises(MaliceError, match=wanted) as caught:
        run(cube_of(small / "S2"), **{"model": "malice-sim", **context})
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value), "there is no command line"


def test_wrong_cubes_are_one_line(small: Path) -> None:
    with pytest.raises(InputError, match=r"the context is \['s2'\], must be names and values"):
        openeo_udf.Options.of(["s2"])  # type: ignore[arg-type]
    s2, s1 = cube_of(small / "S2"), cube_of(small / "S1")
    decibel = 10 * np.log10(s1)
    for cube, wanted in (
        (s2[0], "dimensions bands, y, x; wanted are t, bands, y and x"),
        (s2.drop_vars("x"), "no labels along x"),
        (s2.assign_coords(t=range(s2.sizes["t"])), "'0' along t is no date"),
        (s2[..., :1], "x of the cube are no coordinates of at least 2 pixels"),
        (s2[..., ::-1], "x runs from"),
        (s2[..., [0, 1, 3]], "not evenly spaced"),
        (s2[..., ::2], "pixels are 20 x 10 m, not square"),
        (s2.assign_coords(x=s2.x / 1e5, y=s2.y / 1e5), "so degrees"),
        (s2.drop_sel(bands=["B8A"]), "no band B8A of Sentinel-2 L2A; it has B02, B03"),
        (s2.assign_coords(bands=[*s2.bands.values[:-1], "S2-B02"]), "no band B12"),
        (xarray.concat([s2, s2[:, :1].assign_coords(bands=["L1C_B02"])], "bands"), "B02, L1C_B02 are all B02"),
        (s2.assign_coords(bands=[f"b{i}x" for i in range(10)]), "no band of Sentinel-2 or Sentinel-1"),
        (s2 / 10000, "holds reflectance 0-1"),
        (decibel, "mostly negative .* so dB; convert them to linear"),
        (np.rint(10 ** ((decibel + 83) / 20)), "coded integers .* dB = 20\\*log10\\(DN\\) - 83"),
    ):
        with pytest.raises(MaliceError, match=wanted) as caught:
            embed(cube)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no band VV, VH"):
        embed(s2, sensor="s1")


def test_no_zip_of_a_model(small: Path, tmp_path: Path) -> None:
    cube = cube_of(small / "S1")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "folder").mkdir()
    two = shutil.make_archive(str(tmp_path / "two"), "zip", ROOT, "models")
    for model, wanted in (("broken.zip", "nor a whole zip"), ("folder", "holds 0 files"), (two, "holds 2 files")):
        with pytest.raises(MaliceError, match=wanted):
            run(cube, model=str(tmp_path / model))


def test_series_unlike_those_of_training_are_warned_of(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    cube = cube_of(small / "S1")
    months = cube.assign_coords(t=np.array(["2020-03-01", "2020-04-01", "2020-06-01"], "datetime64[ns]"))
    embed(months.assign_coords(bands=["S1-SIGMA0-VV", "S1-SIGMA0-VH"]))
    assert "all dates are the 1. of a month, so composites" in caplog.text
    assert "S1-SIGMA0-VV and S1-SIGMA0-VH are sigma0" in caplog.text
    assert "span 92 days" in caplog.text
    caplog.clear()
    coarse = cube[..., ::2, ::2]
    embed(coarse)
    assert "pixels of 20 m" in caplog.text
    assert "composites" not in caplog.text
