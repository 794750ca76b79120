"""``--format zarr``: the numbers of the GeoTIFF, as xarray and GDAL understand them; nothing is lost on the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_embed import Array, Recorder, free_names, run, write_series
from helpers_pieces import SHARD, SHARD_BYTES, killed, states, two_sensors
from helpers_scratch import finished
from rasterio.crs import CRS

from malice_core import cube, embed, finetune
from malice_core.cancelling import Cancel
from malice_core.errors import Cancelled, InputError, OutputError
from malice_core.job import DTYPES
from malice_core.product import Means, Steps
from malice_core.scratch import folder_of

zarr = pytest.importorskip("zarr")
xarray = pytest.importorskip("xarray")


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cube, "SHARD", SHARD)
    monkeypatch.setattr(cube, "SHARD_BYTES", SHARD_BYTES)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("data") / "images", (75, 67), 2)


@pytest.fixture
def job(tiny: str, images: Path, tmp_path: Path) -> list[object]:
    """2 x 2 shards of 64 pixels and two of bands."""
    output = tmp_path / "e.zarr"
    return ["--s2", images, "--model", tiny, "--queries", "0", "--format", "zarr", "--output", output]


@pytest.fixture(scope="module")
def whole(store: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``job`` makes if nothing disturbs it; nothing may be done to it."""
    output = tmp_path_factory.mktemp("whole") / "e.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALICE_MODELS", f"{store}")
        patch.setattr(cube, "SHARD", SHARD)
        patch.setattr(cube, "SHARD_BYTES", SHARD_BYTES)
        run("--s2", images, "--model", "tiny", "--queries", "0", "--format", "zarr", "--output", output)
    return output


def read(path: Path, name: str = "embedding") -> Array:
    values: Array = np.asarray(zarr.open_array(path / name, mode="r")[...])
    return values


def opened(path: Path) -> Any:
    """As xarray reads it; any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return xarray.open_dataset(path, engine="zarr", chunks=None).load()


def bits(values: Array) -> Array:
    return values.view(f"u{values.itemsize}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_store_holds_what_the_geotiff_holds(tiny: str, tmp_path: Path, dtype: str) -> None:
    arguments = [*two_sensors(tmp_path, tiny), "--dtype", dtype]
    folder = tmp_path / "mit Leerzeichen é 中"
    folder.mkdir()
    flat, store = folder / "e.tif", folder / "e f.zarr"
    run(*arguments, "--output", flat, "--counts", folder / "n.tif")
    recorder = run(*arguments, "--output", store, "--counts", store, "--format", "zarr")
    assert recorder.files == [f"{store}"]
    assert free_names(folder) == sorted(["e.tif", "n.tif", "e f.zarr", *(["e_scale.tif"] if dtype == "int8" else [])])
    with rasterio.open(flat) as file:
        wanted, names, transform, tags = file.read(), file.descriptions, file.transform, file.tags()
        crs, scales, offsets = file.crs, np.array(file.scales)[:, None, None], np.array(file.offsets)[:, None, None]
    array = zarr.open_array(store / "embedding", mode="r")
    assert array.dtype == ("uint8" if dtype == "int8" else dtype)
    assert len(states(store / "embedding" / "c", "*")) > 4, "one shard is no test of shards"
    np.testing.assert_array_equal(bits(np.asarray(array[...]).astype(wanted.dtype)), bits(wanted))
    with rasterio.open(folder / "n.tif") as file:
        np.testing.assert_array_equal(read(store, "counts"), file.read())

    found = opened(store)
    assert found.embedding.dims == ("band", "y", "x")
    assert tuple(found.band.values) == names
    assert tuple(found.sensor.values) == ("S2", "S1")
    left, top = transform.c, transform.f
    np.testing.assert_array_equal(found.x, left + 10 * np.arange(67) + 5)
    np.testing.assert_array_equal(found.y, top - 10 * np.arange(75) - 5)
    assert CRS.from_wkt(found.spatial_ref.attrs["crs_wkt"]) == crs
    assert tuple(float(word) for word in found.spatial_ref.attrs["GeoTransform"].split()) == transform.to_gdal()
    kept = {key: text for key, text in tags.items() if key.startswith("MALICE_") and key != "MALICE_SCALE"}
    assert {key: found.attrs[key] for key in kept} == kept

    # What the numbers mean, by the names in the store alone; xarray has masked nodata.
    values = found.embedding.astype(np.float64)
    nothing = np.isnan(wanted) if wanted.dtype == np.float32 else wanted == {"int16": -32768, "int8": 0}[dtype]
    meant = wanted.astype(np.float64) * scales + offsets
    if dtype == "int16":
        values = values * found.scale + found.offset
    if dtype == "int8":
        with rasterio.open(folder / "e_scale.tif") as file:
            np.testing.assert_array_equal(bits(read(store, "scales")), bits(file.read()))
            meant = (meant - 128) * np.repeat(file.read().astype(np.float64), 128, axis=0)
        sensor = xarray.where(found.band.str.startswith("S2"), "S2", "S1")
        values = (values - 128) * found.scales.astype(np.float64).sel(sensor=sensor)
        assert found.attrs["MALICE_SCALE"].endswith("in the array scales")
    assert nothing.any()
    np.testing.assert_array_equal(np.isnan(values.transpose("band", "y", "x")), nothing)
    np.testing.assert_allclose(values.transpose("band", "y", "x").values[~nothing], meant[~nothing], rtol=1e-12)
    assert found.embedding.encoding["_FillValue"] == pytest.approx(array.fill_value, nan_ok=True)


def test_a_store_of_whole_chunks_and_one_of_a_pixel(tiny: str, tmp_path: Path) -> None:
    for side in (1, 64):
        images = write_series(tmp_path / f"images{side}", (side, side), 2)
        arguments = ["--s2", images, "--model", tiny, "--queries", "5"]
        run(*arguments, "--output", tmp_path / "e.tif", "--overwrite")
        run(*arguments, "--output", tmp_path / "e.zarr", "--format", "zarr", "--overwrite")
        with rasterio.open(tmp_path / "e.tif") as file:
            np.testing.assert_array_equal(read(tmp_path / "e.zarr"), file.read())


def test_counts_may_be_a_geotiff(job: list[object], tmp_path: Path) -> None:
    recorder = run(*job, "--counts", tmp_path / "n.tif")
    assert recorder.files == [f"{tmp_path / 'n.tif'}", f"{tmp_path / 'e.zarr'}"]
    with rasterio.open(tmp_path / "n.tif") as file:
        assert (file.read() == 2).all()
    assert not (tmp_path / "e.zarr" / "counts").exists()


def unnamed(patch: pytest.MonkeyPatch) -> None:
    """Has a whole store fail to get its name."""
    replace = os.replace

    def failing(source: Any, target: Any) -> None:
        if Path(source).name == "codes.zarr":
            raise OSError(5, "Input/output error")
        replace(source, target)

    patch.setattr("malice_core.placing.os.replace", failing)


def test_counts_that_are_asked_for_later_come_into_the_store(
    job: list[object], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "e.zarr"
    run(*job)
    with monkeypatch.context() as patch:
        unnamed(patch)
        with pytest.raises(OutputError, match="Input/output error"):
            run(*job, "--counts", store, "--resume")
    np.testing.assert_array_equal(read(store), read(whole))
    run(*job, "--counts", store, "--resume")
    assert (read(store, "counts") == 2).all()
    np.testing.assert_array_equal(read(store), read(whole))
    assert free_names(tmp_path) == ["e.zarr"]
    before = states(tmp_path, "*")
    run(*job, "--counts", store, "--resume")
    run(*job, "--resume")
    assert states(tmp_path, "*") == before


@pytest.mark.parametrize("absolute", ["--counts", "--output", "both"])
def test_the_store_may_be_named_in_two_ways(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [tmp_path / "e.zarr" if absolute in (option, "both") else "e.zarr" for option in ("--output", "--counts")]
    recorder = run(*job[:-1], names[0], "--counts", names[1])
    assert recorder.files == [f"{names[0]}"]
    assert (read(tmp_path / "e.zarr", "counts") == 2).all()
    assert free_names(tmp_path) == ["e.zarr"]
    pytest.importorskip("distributed")
    pytest.importorskip("cryptography")
    recorder = run(*job[:-1], "e.zarr", "--counts", names[1], "--overwrite", "--dask", "local", dry_run=True)
    assert recorder.plans[0]["outputs"] == [f"{tmp_path / 'e.zarr'}"]


def test_killed_at_random_pieces_it_goes_on(job: list[object], whole: Path, tmp_path: Path) -> None:
    growing = folder_of(tmp_path / "e.zarr") / "codes.zarr"
    seed = random.randrange(1000)
    rng, kept = random.Random(seed), states(growing, "?")
    for kill in range(3):
        # 8 shards, each with a look before it is written and, where it is, one before it is read back.
        killed(rng.randrange(5), [*job, "--resume", "--threads", 1])
        assert not (tmp_path / "e.zarr").exists()
        now = states(growing, "?")
        assert {path: state for path, state in now.items() if path in kept} == kept, f"seed {seed}, kill {kill}"
        kept = {path: state for path, state in now.items() if path.parent.parent.parent.name == "c"}
    run(*job, "--resume")
    final = states(tmp_path / "e.zarr", "?")
    assert all(final[tmp_path / "e.zarr" / path.relative_to(growing)] == state for path, state in kept.items())
    assert free_names(tmp_path) == ["e.zarr"]
    for path in whole.rglob("*"):
        other = tmp_path / "e.zarr" / path.relative_to(whole)
        assert path.is_dir() or path.read_bytes() == other.read_bytes(), path
    before = states(tmp_path, "*")
    run(*job, "--resume")
    assert states(tmp_path, "*") == before


def test_damaged_leftovers_are_written_anew(job: list[object], whole: Path, tmp_path: Path) -> None:
    killed(11, [*job, "--threads", 1])
    growing = folder_of(tmp_path / "e.zarr") / "codes.zarr"
    shards = sorted((growing / "embedding" / "c").rglob("?"))
    shards = [path for path in shards if path.is_file()]
    assert len(shards) >= 4
    shards[0].write_bytes(shards[0].read_bytes()[:-100])
    content = bytearray(shards[1].read_bytes())
    content[40] ^= 255
    shards[1].write_bytes(content)
    shards[2].write_bytes(b"")
    shards[3].write_bytes(shards[0].read_bytes())
    (shards[0].parent / "0.abc.partial").write_bytes(b"half")
    run(*job, "--resume")
    np.testing.assert_array_equal(read(tmp_path / "e.zarr"), read(whole))
    assert not list((tmp_path / "e.zarr").rglob("*.partial"))


def test_a_leftover_of_other_shards_is_begun_anew(
    job: list[object], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(11, [*job, "--threads", 1])
    monkeypatch.setattr(cube, "SHARD", 128)
    run(*job, "--resume")
    shards = [path for path in (tmp_path / "e.zarr" / "embedding" / "c").rglob("*") if path.is_file()]
    assert {path.parts[-2:] for path in shards} == {("0", "0")}, "none of the other grid may be left"
    np.testing.assert_array_equal(read(tmp_path / "e.zarr"), read(whole))


def test_a_folder_of_somebody_else_is_never_replaced(job: list[object], tmp_path: Path) -> None:
    other = tmp_path / "e.zarr"
    other.mkdir()
    (other / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    for more in ([], ["--overwrite"], ["--resume"], ["--overwrite", "--resume"]):
        with pytest.raises(OutputError, match="no store that embed wrote"):
            run(*job, *more)
    assert free_names(other) == ["zarr.json"]
    shutil.rmtree(other)
    other.write_bytes(b"precious")
    with pytest.raises(OutputError, match="no store that embed wrote"):
        run(*job, "--overwrite")
    other.rename(tmp_path / "kept")
    other.symlink_to(tmp_path)
    with pytest.raises(OutputError, match="no store that embed wrote"):
        run(*job, "--overwrite")


def test_a_folder_that_appears_meanwhile_is_not_replaced(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = cube.Store.write

    def slow(self: cube.Store, piece: int, means: Means) -> Steps:
        (tmp_path / "e.zarr").mkdir(exist_ok=True)
        (tmp_path / "e.zarr" / "thesis.txt").write_text("precious")
        return write(self, piece, means)

    monkeypatch.setattr(cube.Store, "write", slow)
    for more in ([], ["--overwrite"]):
        with pytest.raises(OutputError, match="was not written by"):
            run(*job, *more)
        assert (tmp_path / "e.zarr" / "thesis.txt").read_text() == "precious"
        shutil.rmtree(tmp_path / "e.zarr")


def test_an_old_store_stays_until_the_new_one_is_whole(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*job)
    old = read(tmp_path / "e.zarr")
    with pytest.raises(OutputError, match="exists already"):
        run(*job)
    other = [*job, "--nodata", "zero", "--dtype", "float16"]
    with pytest.raises(OutputError, match="not written by this job"):
        run(*other, "--resume")
    killed(3, [*other, "--overwrite", "--threads", 1])
    np.testing.assert_array_equal(read(tmp_path / "e.zarr"), old)

    # Killed between the two renames; then one without --resume finds the old one again.
    replace = os.replace

    def dying(source: Any, target: Any) -> None:
        if Path(source).name == "codes.zarr":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("malice_core.placing.os.replace", dying)
        with pytest.raises(KeyboardInterrupt):
            run(*other, "--overwrite", "--resume")
    assert not (tmp_path / "e.zarr").exists()
    with pytest.raises(OutputError, match="not written by this job"):
        run(*other)
    np.testing.assert_array_equal(read(tmp_path / "e.zarr"), old)
    run(*other, "--overwrite", "--resume")
    assert read(tmp_path / "e.zarr").dtype == np.float16
    assert free_names(tmp_path) == ["e.zarr"]

    with monkeypatch.context() as patch:
        unnamed(patch)
        with pytest.raises(OutputError, match=r"cannot put .* in place: Input/output error"):
            run(*job, "--overwrite")
    assert read(tmp_path / "e.zarr").dtype == np.float16, "the old one must come back"


def test_a_cancelled_run_leaves_no_store_and_goes_on(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, write = Cancel(), cube.Store.write

    def one(self: cube.Store, piece: int, means: Means) -> Steps:
        yield from write(self, piece, means)
        cancel.set()

    with monkeypatch.context() as patch:
        patch.setattr(cube.Store, "write", one)
        options = embed.parser().parse_args([*map(str, job), "--threads", "1"])
        with pytest.raises(Cancelled):
            embed.execute(embed.job_of(options), Recorder(), cancel)
    assert not (tmp_path / "e.zarr").exists()
    kept = states(folder_of(tmp_path / "e.zarr") / "codes.zarr" / "embedding" / "c", "*")
    assert len(kept) == 2
    run(*job, "--resume")
    assert {path.name for path in (tmp_path / "e.zarr" / "embedding" / "c").iterdir()} == {"0", "1"}


def test_a_full_disk_is_one_line_and_goes_on_later(
    tiny: str, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 72 x 72 pixels fit the 2 MB, the store beside them does not."""
    monkeypatch.setattr("malice_core.plan.check_disk", lambda *_: None)
    images = write_series(tmp_path / "images", (72, 72), 2)
    job = ["--s2", images, "--model", tiny, "--queries", "0", "--format", "zarr", "--output", small_disk / "e.zarr"]
    with pytest.raises(OutputError, match=r"cannot write .*e\.zarr: .*free space") as caught:
        run(*job)
    assert "\n" not in str(caught.value)
    assert not (small_disk / "e.zarr").exists()
    assert finished(small_disk / "e.zarr")
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    run(*job, "--resume")
    assert np.isfinite(read(small_disk / "e.zarr")).all()
    assert free_names(small_disk) == ["e.zarr"]


def test_what_the_disk_loses_is_noticed(job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(file: Path) -> None:
        if file.name != "zarr.json":
            file.unlink()

    monkeypatch.setattr(cube, "flush", lost)
    with pytest.raises(OutputError, match="cannot be read back"):
        run(*job)
    assert not (tmp_path / "e.zarr").exists()


def test_without_the_package_it_is_one_line(job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'malice-core\[zarr\]'"):
        run(*job)
    assert free_names(tmp_path) == []


def test_other_formats_do_without_the_package(job: list[object], tmp_path: Path) -> None:
    code = (
        "import sys; from malice_core import embed; sys.exit(embed.main(sys.argv[1:]) or 7 * ('zarr' in sys.modules))"
    )
    arguments = [*job[:-3], "vrt", "--output", tmp_path / "e.vrt"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("output", "format", "more", "match"),
    [
        ("e.tif", "zarr", [], r"--format zarr needs a name that ends in \.zarr"),
        ("e.vrt", "zarr", [], r"--format zarr needs a name that ends in \.zarr"),
        ("e.zarr", "vrt", [], r"--format vrt needs a name that ends in \.vrt"),
        ("e.zarr", "gtiff", [], "give --format zarr"),
        ("e.vrt", "cog", [], "give --format vrt"),
        ("e.png", "gtiff", [], r"ends in \.tif"),
        ("e.zarr", "zarr", ["--counts", "n.zarr"], r"--counts .*n\.zarr: give --output's name"),
        ("e.tif", "gtiff", ["--counts", "n.zarr"], r"--counts .*n\.zarr: outputs are GeoTIFF"),
    ],
)
def test_names_fit_formats(tiny: str, tmp_path: Path, output: str, format: str, more: list[str], match: str) -> None:
    more = [f"{tmp_path / word}" if word.endswith(".zarr") else word for word in more]
    with pytest.raises(OutputError, match=match):
        run("--s2", tmp_path, "--model", tiny, "--output", tmp_path / output, "--format", format, *more)


def test_classes_are_one_file() -> None:
    with pytest.raises(InputError, match="invalid choice: 'zarr'"):
        finetune.predict_parser().parse_args(["run", "--s2", "x", "--output", "e.zarr", "--format", "zarr"])
