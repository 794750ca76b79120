"""``--format vrt``: the raster of the GeoTIFF in tiles; nothing is lost on the way."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_embed import Array, Recorder, free_names, run, write_series
from helpers_pieces import SIDE, killed, states, two_sensors

from malice_core import embed, mosaic
from malice_core.cancelling import Cancel
from malice_core.errors import Cancelled, OutputError
from malice_core.job import DTYPES
from malice_core.product import Means, Steps
from malice_core.scratch import folder_of


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosaic, "SIDE", SIDE)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("data") / "images", (75, 67), 2)


@pytest.fixture
def job(tiny: str, images: Path, tmp_path: Path) -> list[object]:
    """3 x 3 tiles of 32 pixels."""
    return ["--s2", images, "--model", tiny, "--queries", "0", "--format", "vrt", "--output", tmp_path / "e.vrt"]


@pytest.fixture(scope="module")
def whole(store: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Array:
    """The bands of ``job``, in one file."""
    output = tmp_path_factory.mktemp("whole") / "e.tif"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALICE_MODELS", f"{store}")
        run("--s2", images, "--model", "tiny", "--queries", "0", "--output", output)
    return read(output)


def read(path: Path) -> Array:
    with rasterio.open(path) as file:
        values: Array = file.read()
    return values


def precious(path: Path) -> None:
    """A raster that embed has not written."""
    with rasterio.open(path, "w", driver="GTiff", height=1, width=1, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 1, 1), np.uint8))


def bits(values: Array) -> Array:
    return values.view(f"u{values.itemsize}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vrt_is_what_the_geotiff_is(tiny: str, tmp_path: Path, dtype: str) -> None:
    arguments = [*two_sensors(tmp_path, tiny), "--dtype", dtype]
    folder, other = tmp_path / "mit Leerzeichen é & 中", tmp_path / "one"
    folder.mkdir()
    other.mkdir()
    run(*arguments, "--output", other / "e f.tif", "--counts", other / "n.tif")
    recorder = run(*arguments, "--output", folder / "e f.vrt", "--counts", folder / "n.tif", "--format", "vrt")
    small = ["e f_scale.tif"] if dtype == "int8" else []
    assert free_names(folder) == sorted(["e f.vrt", "e f_tiles", "n.tif", *small])
    assert recorder.files == [f"{folder / name}" for name in ("n.tif", *small, "e f.vrt")]
    assert len(free_names(folder / "e f_tiles")) == 9
    moved = tmp_path / "moved"
    shutil.move(folder, moved)  # names are relative
    for name in ("n.tif", *small):
        np.testing.assert_array_equal(bits(read(moved / name)), bits(read(other / name)))
    with rasterio.open(other / "e f.tif") as file, rasterio.open(moved / "e f.vrt") as vrt:
        np.testing.assert_array_equal(bits(vrt.read()), bits(file.read()))
        for name in (
            "shape",
            "count",
            "crs",
            "transform",
            "dtypes",
            "descriptions",
            "scales",
            "offsets",
            "colorinterp",
        ):
            assert getattr(vrt, name) == getattr(file, name), name
        assert vrt.tags() == file.tags()
        np.testing.assert_array_equal(vrt.nodatavals, file.nodatavals)
    for tile in (moved / "e f_tiles").iterdir():
        with rasterio.open(tile) as file:
            assert file.tags()["MALICE_JOB"].startswith(tile.name[:8])
            assert (file.compression is None) is (dtype == "float32")


@pytest.mark.skipif(not shutil.which("gdal_translate"), reason="Debian's gdal-bin is not installed")
def test_gdal_of_debian_reads_it(job: list[object], whole: Array, tmp_path: Path) -> None:
    run(*job)
    flat = tmp_path / "flat.bin"
    subprocess.run(["gdal_translate", "-q", "-of", "ENVI", tmp_path / "e.vrt", flat], check=True)
    np.testing.assert_array_equal(np.fromfile(flat, np.float32).reshape(whole.shape), whole)


def test_a_small_area_is_one_tile(
    job: list[object], whole: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "SIDE", 2048)
    run(*job)
    assert len(free_names(tmp_path / "e_tiles")) == 1
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)


def test_killed_at_random_pieces_it_goes_on(job: list[object], whole: Array, tmp_path: Path) -> None:
    growing = folder_of(tmp_path / "e.vrt") / "tiles"
    seed = random.randrange(1000)
    rng, kept = random.Random(seed), {}
    for kill in range(3):
        # A tile has three looks: as it is begun, written, and read back; one that is there has two.
        killed(rng.randrange(1 + 4 * kill, 5 + 4 * kill), [*job, "--resume", "--threads", 1])
        assert not (tmp_path / "e.vrt").exists()
        now = states(growing, "*.tif")
        assert {path: state for path, state in now.items() if path in kept} == kept, f"seed {seed}, kill {kill}"
        # The last one is not whole.
        kept = dict(sorted(now.items())[:-1])
    run(*job, "--resume")
    final = states(tmp_path / "e_tiles", "*")
    assert {path.name: state for path, state in final.items() if growing / path.name in kept} == {
        path.name: state for path, state in kept.items()
    }
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)
    assert free_names(tmp_path) == ["e.vrt", "e_tiles"]
    before = states(tmp_path, "*")
    run(*job, "--resume")
    assert states(tmp_path, "*") == before
    # A VRT without one of its tiles is not whole.
    min(final).unlink()
    run(*job, "--resume")
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)


def test_damaged_leftovers_are_written_anew(job: list[object], whole: Array, tmp_path: Path) -> None:
    killed(12, [*job, "--threads", 1])
    tiles = sorted((folder_of(tmp_path / "e.vrt") / "tiles").iterdir())
    assert len(tiles) >= 4
    tiles[0].write_bytes(tiles[0].read_bytes()[:-2000])
    tiles[1].write_bytes(b"")
    with rasterio.open(tiles[2], "r+") as file:
        file.write(file.read() + 1)
    shutil.copy(tiles[2], tiles[3])
    run(*job, "--resume")
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)


def test_files_of_somebody_else_are_never_replaced(job: list[object], tmp_path: Path) -> None:
    tiles = tmp_path / "e_tiles"
    tiles.mkdir()
    precious(tiles / "0123abcd_000_000.tif")
    for more in ([], ["--overwrite"], ["--resume"]):
        with pytest.raises(OutputError, match=r"0123abcd_000_000\.tif there was not written by embed"):
            run(*job, *more)
    (tiles / "0123abcd_000_000.tif").unlink()
    (tiles / "0123abcd_000_000.tif").mkdir()
    with pytest.raises(OutputError, match="was not written by embed"):
        run(*job, "--overwrite")
    shutil.rmtree(tiles)
    tiles.write_text("precious")
    with pytest.raises(OutputError, match="e_tiles there was not written by embed"):
        run(*job, "--overwrite")
    tiles.unlink()
    (tmp_path / "e.vrt").write_text("<VRTDataset/>")
    with pytest.raises(OutputError, match="exists already"):
        run(*job)
    with pytest.raises(OutputError, match="not written by this job"):
        run(*job, "--resume")
    assert free_names(tmp_path) == ["e.vrt"]


def test_files_that_are_in_no_tiles_way_stay(
    job: list[object], whole: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of file managers and file servers, also where they come while tiles are written; and damaged tiles."""
    place, tiles = mosaic.Mosaic.place, tmp_path / "e_tiles"
    names = {".DS_Store", "Thumbs.db", "desktop.ini", ".nfs0001", "thesis.txt", "photo.tif.aux.xml"}

    def late(self: mosaic.Mosaic) -> None:
        tiles.mkdir(exist_ok=True)
        for name in names:
            (tiles / name).write_text("precious")
        place(self)

    with monkeypatch.context() as patch:
        patch.setattr(mosaic.Mosaic, "place", late)
        run(*job)
    mine = sorted(path for path in tiles.iterdir() if path.name not in names)
    mine[0].write_bytes(b"")
    mine[1].write_bytes(mine[1].read_bytes()[:100])
    mine[2].unlink()
    run(*job, "--resume")
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)
    assert {path.name for path in tiles.iterdir()} == names | {path.name for path in mine}
    assert {(tiles / name).read_text() for name in names} == {"precious"}
    mine[0].write_bytes(b"")
    run(*job, "--overwrite")
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)


def test_files_that_appear_meanwhile_are_not_replaced(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = mosaic.Mosaic.write
    one = Lock()

    def slow(self: mosaic.Mosaic, piece: int, means: Means) -> Steps:
        # Several threads write tiles.
        with one:
            (tmp_path / "e_tiles").mkdir(exist_ok=True)
            if not free_names(tmp_path / "e_tiles"):
                precious(tmp_path / "e_tiles" / "0123abcd_000_000.tif")
        return write(self, piece, means)

    monkeypatch.setattr(mosaic.Mosaic, "write", slow)
    with pytest.raises(OutputError, match="was not written by embed"):
        run(*job, "--overwrite")
    assert free_names(tmp_path / "e_tiles") == ["0123abcd_000_000.tif"]
    assert not (tmp_path / "e.vrt").exists()


def test_an_old_vrt_stays_whole_until_the_new_one_is(
    job: list[object], whole: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*job)
    first = {path.name for path in (tmp_path / "e_tiles").iterdir()}
    (tmp_path / "e_tiles" / f"{min(first)}.aux.xml").write_text("of a program that looked at it")
    with pytest.raises(OutputError, match="exists already"):
        run(*job)
    other = [*job, "--dtype", "float16"]
    killed(7, [*other, "--overwrite", "--threads", 1])
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)

    # Killed when the new tiles lie beside the old ones, and when only the old ones are left over.
    for name in ("place_file", "tidy"):
        step = getattr(mosaic, name)

        def dying(*given: Any, step: Any = step) -> None:
            if given[-1] == tmp_path / "e.vrt" or isinstance(given[-1], str):
                raise KeyboardInterrupt
            step(*given)

        with monkeypatch.context() as patch:
            patch.setattr(mosaic, name, dying)
            with pytest.raises(KeyboardInterrupt):
                run(*other, "--overwrite", "--resume")
        assert len({path.name[:8] for path in (tmp_path / "e_tiles").glob("*.tif")}) == 2
        if name == "place_file":
            np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)
    # The VRT is the new one: going on means tidying up.
    run(*other, "--resume")
    now = {path.name for path in (tmp_path / "e_tiles").iterdir()}
    assert len(now) == 9
    assert not now & first
    assert free_names(tmp_path) == ["e.vrt", "e_tiles"]
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole.astype(np.float16).astype(np.float32))
    # Tiles without their VRT may be wanted.
    (tmp_path / "e.vrt").unlink()
    with pytest.raises(OutputError, match="e_tiles is there and was not written by this job"):
        run(*job)


def test_a_cancelled_run_leaves_no_vrt_and_goes_on(
    job: list[object], whole: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, write = Cancel(), mosaic.Mosaic.write

    def one(self: mosaic.Mosaic, piece: int, means: Means) -> Steps:
        yield from write(self, piece, means)
        cancel.set()

    with monkeypatch.context() as patch:
        patch.setattr(mosaic.Mosaic, "write", one)
        options = embed.parser().parse_args([*map(str, job), "--threads", "1"])
        with pytest.raises(Cancelled):
            embed.execute(embed.job_of(options), Recorder(), cancel)
    assert free_names(tmp_path) == ["e.vrt.malice"]
    assert len(free_names(folder_of(tmp_path / "e.vrt") / "tiles")) == 1
    run(*job, "--resume")
    np.testing.assert_array_equal(read(tmp_path / "e.vrt"), whole)


def test_a_full_disk_is_one_line_and_goes_on_later(
    tiny: str, images: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, whole: Array
) -> None:
    """Blocks of 75 x 67 pixels fit the 2 MB, the tiles beside them do not."""
    monkeypatch.setattr("malice_core.plan.check_disk", lambda *_: None)
    job = ["--s2", images, "--model", tiny, "--queries", "0", "--format", "vrt", "--output", small_disk / "e.vrt"]
    with pytest.raises(OutputError, match=r"cannot write .*e\.vrt: .*free space") as caught:
        run(*job)
    assert "\n" not in str(caught.value)
    assert free_names(small_disk) == ["e.vrt.malice"]
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    run(*job, "--resume")
    np.testing.assert_array_equal(read(small_disk / "e.vrt"), whole)


def test_outputs_among_the_images_are_no_images(tiny: str, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    arguments = ["--s2", folder, "--model", tiny, "--queries", "0", "--format", "vrt", "--output", folder / "e.vrt"]
    run(*arguments)
    run(*arguments, "--overwrite")
    with rasterio.open(folder / "e.vrt") as file:
        assert len(file.tags()["MALICE_DATES_S2"].split(",")) == 2
