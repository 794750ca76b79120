"""Outputs that grow while their blocks are computed: the same files, and what is left when a run ends early."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_cluster import until
from helpers_embed import Array, Recorder, embedded, free_names, run, write_series
from helpers_pieces import killed
from helpers_scratch import finished, indices, put

from malice_core import assembling, embed, geotiff, mosaic, product, spool
from malice_core.assembling import Assembler
from malice_core.blocks import BlockEncoder
from malice_core.cancelling import Cancel
from malice_core.errors import Cancelled, OutputError, StackError
from malice_core.grid import Block, Window
from malice_core.product import Steps
from malice_core.scratch import Scratch, folder_of
from malice_core.spool import Spool

#: Of the job: rows of blocks and of tiles, blocks in each, strips of 36 bands.
SIDE, ROWS, ACROSS, STRIPS = 16, 5, 5, 4
ALL = list(range(ROWS * ACROSS))


@pytest.fixture
def job(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A job whose output has rows of tiles as high as its blocks."""
    monkeypatch.setattr(product, "TILE", SIDE)
    monkeypatch.setattr(geotiff, "STRIP_BYTES", 36 * 4 * SIDE * SIDE * ACROSS)
    images = write_series(tmp_path / "images", (SIDE * ROWS, SIDE * ACROSS), 2, missing=0.1)
    return ["--s2", images, "--model", tiny, "--block", SIDE, "--queries", "0,1", "--output", tmp_path / "e.tif"]


class Reads:
    """Counts the strips of a file that were written and read back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.strips = 0
        same = geotiff.same

        def counted(read: Array, wanted: Array) -> bool:
            self.strips += 1
            return same(read, wanted) and self.good()

        monkeypatch.setattr(geotiff, "same", counted)

    def good(self) -> bool:
        return True

    @property
    def rows(self) -> int:
        return self.strips // STRIPS


def content(path: Path) -> tuple[object, ...]:
    """All that a file holds and says, and its size.

    Not its bytes: GDAL has one cache for all threads, and one that reads an image may put the tile that was written
    last behind the next in the file (geotiff._reads_back).
    """
    if path.suffix == ".vrt":
        return (path.read_bytes(),)
    held: list[object] = [path.stat().st_size]
    for level in range(-1, len(overviews(path))):
        with rasterio.open(path, **({} if level < 0 else {"overview_level": level})) as file:
            profile = {key: repr(value) for key, value in file.profile.items()}
            held += [profile, file.tags(), file.tags(ns="IMAGE_STRUCTURE"), file.descriptions, file.read().tobytes()]
    return tuple(held)


def overviews(path: Path) -> list[int]:
    """Reductions of the overviews of a file's bands, which are those of its first."""
    with rasterio.open(path) as file:
        return list(file.overviews(1))


def patient(monkeypatch: pytest.MonkeyPatch, rows: Callable[[], int]) -> list[int]:
    """Has a block computed only when ``rows`` says that those before are written; returns which were computed."""
    encode, computed = BlockEncoder.encode, list[int]()

    def waiting(
        self: BlockEncoder, block: Block, images: Any, check: Callable[[], None], tick: Any, reached: Any = None
    ) -> Future[None]:
        def met() -> bool:
            check()  # as an encoder does all the time
            return rows() >= block.index // ACROSS

        until(met, f"what comes before block {block.index}")
        computed.append(block.index)
        saved = encode(self, block, images, check, tick, reached)
        # The last block of a row must be there to be written before the next one is begun.
        saved.result()
        return saved

    monkeypatch.setattr(BlockEncoder, "encode", waiting)
    return computed


def test_rows_are_written_while_others_are_computed(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the file is that of a run that writes when all blocks are there."""
    (tmp_path / "late").mkdir()
    with monkeypatch.context() as patch:
        tell, held = Assembler.computed, list[int]()

        def afterwards(self: Assembler, block: int) -> None:
            held.append(block)
            if len(held) == len(ALL):
                for one in held:
                    tell(self, one)

        patch.setattr(Assembler, "computed", afterwards)
        run(*job[:-1], tmp_path / "late" / "e.tif")
    reads = Reads(monkeypatch)
    computed = patient(monkeypatch, lambda: reads.rows)
    told = run(*job)
    assert computed == ALL
    assert reads.rows == ROWS, "each row is read back once"
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 1
    assert content(tmp_path / "e.tif") == content(tmp_path / "late" / "e.tif")
    assert free_names(tmp_path) == ["e.tif", "images", "late"]


@pytest.mark.parametrize(
    ("more", "files"),
    [
        (("--dtype", "int8"), 3),
        (("--dtype", "float16", "--format", "cog"), 2),
        (("--dtype", "int16", "--format", "vrt"), 11),
    ],
)
def test_files_are_the_same_whenever_they_are_read_back(
    job: list[object], more: tuple[str, ...], files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosaic, "SIDE", 2 * SIDE)
    found = []
    for soon in (False, True):
        folder = tmp_path / f"{soon}"
        folder.mkdir()
        monkeypatch.setattr(Assembler, "_computing", lambda _, soon=soon: soon)
        run(*job[:-1], folder / ("e.vrt" if "vrt" in more else "e.tif"), "--counts", folder / "n.tif", *more)
        there = sorted(path for path in folder.rglob("*") if path.is_file())
        found.append({path.relative_to(folder): content(path) for path in there})
    assert found[0] == found[1]
    assert len(found[0]) == files


def test_a_file_that_a_kill_left_is_begun_anew(job: list[object], tmp_path: Path) -> None:
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    scratch = folder_of(tmp_path / "e.tif")
    for looks in (2, 4):
        killed(looks, [*job, "--resume"], SIDE)
        assert (scratch / "codes.tif").exists()
        assert not (tmp_path / "e.tif").exists()
    kept = indices(tmp_path / "e.tif")
    assert set(range(ACROSS)) <= kept
    with pytest.MonkeyPatch.context() as patch:
        assert run_and_list(patch, *job, "--resume") == [block for block in ALL if block not in kept]
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), reference)
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


def test_finished_blocks_that_are_others_are_told(job: list[object], tmp_path: Path) -> None:
    scratch = folder_of(tmp_path / "e.tif")
    killed(2, job, SIDE)
    path = finished(tmp_path / "e.tif")[0]
    content, counts = path.read_bytes(), np.array(spool.load(path, "counts"))
    codes = np.array(spool.load(path, "codes"))
    for other in (codes[:, :-1], codes[:-1], codes.astype(np.float64)):
        height, width = other.shape[1:]
        kinds = {"codes": (len(other), other.dtype), "counts": (1, counts.dtype)}
        numbers = Spool(tmp_path / "other", path, (height, width), kinds, lambda error: OutputError(str(error)))
        put(numbers, {"codes": other, "counts": counts[:, :height]})
        numbers.finish()
        with pytest.raises(
            OutputError, match=r"codes of the finished block 0 are damaged: float(32|64) of the shape \("
        ):
            run(*job, "--resume")
    path.write_bytes(content)
    (scratch / "codes.tif").mkdir()
    with pytest.raises(OutputError, match=r"codes\.tif: Is a directory"):
        run(*job, "--resume")
    (scratch / "codes.tif").rmdir()
    run(*job, "--resume")


def run_and_list(patch: pytest.MonkeyPatch, *arguments: object) -> list[int]:
    """Runs a job; returns the blocks that it computed."""
    computed = patient(patch, lambda: ROWS)
    run(*arguments)
    return computed


def goes_on(job: list[object], tmp_path: Path, computed: list[int]) -> None:
    """A run that ended has left finished blocks, which are not computed again, and nothing half-written."""
    scratch = folder_of(tmp_path / "e.tif")
    assert not (tmp_path / "e.tif").exists()
    assert not list(scratch.glob("*.tif*"))
    assert computed != ALL
    kept = indices(tmp_path / "e.tif")
    assert kept == set(computed)
    with pytest.MonkeyPatch.context() as patch:
        assert run_and_list(patch, *job, "--resume") == [block for block in ALL if block not in kept]
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), embedded(tmp_path / "whole.tif", *job[:-2]))
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


def test_a_tile_that_another_thread_is_about_to_write_is_awaited(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken it out of GDAL's cache, which is one for all threads: what the file had before is read."""
    wanted = embedded(tmp_path / "whole.tif", *job[:-2])
    with monkeypatch.context() as patch:
        patch.setattr(geotiff, "PAUSES", (0, 0, 0))
        reads = Reads(patch)
        patient(patch, lambda: reads.rows // 3)
        found = geotiff._reads_back

        class Late:
            """A file of which a strip's last tile is there when it is read for the third time."""

            def __init__(self, file: Any) -> None:
                self.file, self.asked = file, 0

            def read(self, *given: Any, **options: Any) -> Array:
                self.asked += 1
                values: Array = self.file.read(*given, **options)
                if self.asked < 3:
                    values[-1, :, -SIDE:] = np.nan
                return values

        patch.setattr(geotiff, "_reads_back", lambda file, *given: found(Late(file), *given))
        np.testing.assert_array_equal(embedded(tmp_path / "late.tif", *job[:-2]), wanted)
        # The last row may be read when the file was closed.
        assert reads.rows in (3 * ROWS, 3 * (ROWS - 1) + 1)
        patch.setattr(geotiff, "PAUSES", (0, 0))
        with pytest.raises(OutputError, match="cannot be read back"):
            run(*job)


def test_what_the_disk_loses_is_noticed_while_blocks_are_computed(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is read back, which comes from the file and not from a cache: it is damaged behind GDAL's back."""
    with monkeypatch.context() as patch:
        patch.setattr(geotiff, "PAUSES", (0,))
        reads, growing = Reads(patch), folder_of(tmp_path / "e.tif") / "codes.tif"
        computed = patient(patch, lambda: reads.rows)
        opened = rasterio.open

        class Losing:
            """A file of which the disk loses what is written last."""

            def __init__(self, file: Any) -> None:
                self.file = file

            def __enter__(self) -> Losing:
                self.file.__enter__()
                return self

            def __exit__(self, *given: Any) -> None:
                self.file.__exit__(*given)

            def __setattr__(self, name: str, value: Any) -> None:
                object.__setattr__(self, name, value) if name == "file" else setattr(self.file, name, value)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

            def write(self, *given: Any, **options: Any) -> None:
                before = growing.stat().st_size
                self.file.write(*given, **options)
                if reads.rows == 2:
                    with growing.open("r+b") as raw:
                        raw.seek(before)
                        raw.write(bytes(growing.stat().st_size - before))

        def opening(path: Any, mode: str = "r", **options: Any) -> Any:
            file = opened(path, mode, **options)
            return Losing(file) if mode == "w+" else file

        patch.setattr(rasterio, "open", opening)
        with pytest.raises(OutputError, match=r"cannot write .*e\.tif: .*free space") as seen:
            run(*job)
        assert "\n" not in str(seen.value)
        assert reads.rows == 2
    # The row after the two, and what the encoder had begun.
    assert len(computed) == 3 * ACROSS
    goes_on(job, tmp_path, computed)


def test_an_image_that_cannot_be_read_ends_the_writing(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        reads = Reads(patch)
        computed = patient(patch, lambda: reads.rows)
        encode = BlockEncoder.encode

        def failing(self: BlockEncoder, block: Block, *rest: Any) -> Future[None]:
            if block.index == 2 * ACROSS:
                until(lambda: reads.rows == 2, "two rows")
                raise StackError("unreadable")
            return encode(self, block, *rest)

        patch.setattr(BlockEncoder, "encode", failing)
        with pytest.raises(StackError, match="unreadable"):
            run(*job)
    goes_on(job, tmp_path, computed)


def test_a_cancel_ends_the_writing(job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = Cancel()
    with monkeypatch.context() as patch:

        class Cancelling(Reads):
            def good(self) -> bool:
                if self.rows == 2:
                    cancel.set()
                return True

        reads = Cancelling(patch)
        computed = patient(patch, lambda: reads.rows)
        with pytest.raises(Cancelled):
            embed.execute(embed.job_of(embed.parser().parse_args([*map(str, job)])), Recorder(), cancel)
    goes_on(job, tmp_path, computed)


def test_blocks_may_be_finished_in_any_order(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a cluster are: they are told of backwards."""
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    tell, held = Assembler.computed, list[int]()

    def backwards(self: Assembler, block: int) -> None:
        held.append(block)
        if len(held) == len(ALL):
            for one in reversed(held):
                tell(self, one)

    monkeypatch.setattr(Assembler, "computed", backwards)
    run(*job)
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), reference)


def test_a_block_that_is_never_seen_is_told(job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker says that it has saved it."""
    finished, told = Scratch.finished, list[int]()

    def lost(self: Scratch, block: int, keys: Any = ()) -> bool:
        if block == 7 and len(told) == len(ALL):
            return False
        return finished(self, block, keys)

    tell = Assembler.computed
    monkeypatch.setattr(Assembler, "computed", lambda self, block: (told.append(block), tell(self, block)))
    monkeypatch.setattr(Scratch, "finished", lost)
    monkeypatch.setattr(assembling, "PATIENCE", 0.3)
    patient(monkeypatch, lambda: ROWS)
    # Nothing is looked for before all are told.
    wait = Assembler._await

    def late(self: Assembler, needed: Any, to_row: int) -> None:
        until(lambda: self._left or len(told) == len(ALL), "all blocks")
        wait(self, needed, to_row)

    monkeypatch.setattr(Assembler, "_await", late)
    with pytest.raises(OutputError, match=r"block 7 was saved by a worker, but is not in .*the same folder for all"):
        run(*job)


def test_a_file_without_one_of_its_tiles_is_not_whole(tmp_path: Path) -> None:
    """Its list of tiles is written when it is closed."""
    path, rows = tmp_path / "x.tif", 5
    options = product.creation("uint8", (40 * rows, 40), 1)
    tile = options["blockysize"]
    values = np.random.default_rng(0).integers(1, 99, (2, tile * rows, 40)).astype(np.uint8)
    for missing in (None, 0, rows - 1):
        with rasterio.open(
            path, "w", height=tile * rows, width=40, count=2, dtype="uint8", sparse_ok=True, nodata=0, **options
        ) as file:
            here = values.copy()
            if missing is not None:
                here[1, missing * tile : (missing + 1) * tile] = 0  # is not written: what is nodata may be left out
            file.write(here)
        wanted = np.ones((2, rows, 1), np.bool_)
        assert geotiff._all_tiles(path, wanted) == (missing is None)
        if missing is not None:
            wanted[1, missing] = False
            assert geotiff._all_tiles(path, wanted)
    with rasterio.open(path, "w", height=tile * rows, width=40, count=2, dtype="uint8", **options) as file:
        file.write(values)
    with rasterio.open(path) as file:
        last = max(int(file.get_tag_item(f"BLOCK_OFFSET_0_{row}", "TIFF", bidx=2)) for row in range(rows))
    content = path.read_bytes()
    assert geotiff._all_tiles(path, np.ones((2, rows, 1), np.bool_))
    path.write_bytes(content[: last + 1])
    assert not geotiff._all_tiles(path, np.ones((2, rows, 1), np.bool_))


def test_what_cannot_be_closed_does_not_hide_why_a_run_ended() -> None:
    """A full disk fails again when GDAL closes the file; what was cancelled stays so, and other pieces are left too."""

    def steps() -> Steps:
        try:
            yield Window(0, 0, 1, 1)
        finally:
            raise OutputError("cannot write e.tif: no space")

    part = assembling._Part(0, 0, [0], 0, None, 0, steps())  # type: ignore[arg-type]
    assert part.steps is not None
    next(part.steps)
    part.leave()
    assert next(part.steps, None) is None
