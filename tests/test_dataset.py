"""Building datasets of patches: values, split by location, refusals, damage."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers_dataset import built, files, options, run, write_stack
from helpers_stack import LEFT, TOP, reflectance, write, write_s1
from hypothesis import given, settings
from hypothesis import strategies as st

from malice_core import bands
from malice_core import dataset as dataset_command
from malice_core.errors import InputError
from malice_core.grid import Lattice, Window
from malice_core.patches import splits
from malice_core.patches.splits import SPLITS, Footprints, Rule
from malice_core.patches.store import CLEAR, CLOUDY, MISSING, Dataset
from malice_core.stack import discover

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stack(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def whole(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return built(stack, tmp_path_factory.mktemp("whole") / "d.zarr")


def test_patches_hold_what_the_stack_reads(stack: Path, whole: Dataset) -> None:
    (place,) = whole.places
    assert len(place.patches) == 12
    scl = discover("scl", [stack / "SCL"]).on(place.lattice)
    cloudy = 0
    for key in ("s2", "s1"):
        with discover(key, [stack / key.upper()]).on(place.lattice) as images:
            assert place.series[key].days == tuple((o.date - bands.DATE_ORIGIN).days for o in images.observations)
            assert place.series[key].orbits == tuple(o.orbit for o in images.observations)
            counts = whole.array(0, f"{key}_counts")[:]
            for n, patch in enumerate(place.patches):
                window = Window(patch.row, patch.col, 16, 16)
                values, mask = whole.read(0, n, key), whole.read(0, n, f"{key}_mask")
                for t, observation in enumerate(images.observations):
                    read, observed = images.read(t, window)
                    np.testing.assert_array_equal(values[t], read)
                    expected = np.where(observed, CLEAR, MISSING)
                    for i, other in enumerate(scl.observations):
                        if key == "s2" and other.date == observation.date:
                            classes, _ = scl.read(i, window)
                            expected[observed & np.isin(classes[0], bands.CLOUD_CLASSES)] = CLOUDY
                    np.testing.assert_array_equal(mask[t], expected)
                    cloudy += int((expected == CLOUDY).sum())
                    assert counts[n, t].tolist() == [observed.sum(), (expected == CLEAR).sum()]
    assert cloudy > 1000
    scl.close()


def test_patches_say_where_they_lie(whole: Dataset) -> None:
    place = whole.places[0]
    first = place.content["patches"][0]
    assert (first["left"], first["top"]) == (LEFT, TOP)
    assert place.lattice.crs == "EPSG:32631"
    assert place.name == "EPSG32631_500000_5600000_20230301"


def test_a_crop_is_part_of_its_patch(whole: Dataset) -> None:
    np.testing.assert_array_equal(whole.read(0, 3, "s2", (3, 5, 8)), whole.read(0, 3, "s2")[..., 3:11, 5:13])
    np.testing.assert_array_equal(whole.read(0, 3, "s1_mask", (8, 0, 8)), whole.read(0, 3, "s1_mask")[..., 8:, :8])


def test_without_classification_all_that_is_observed_is_clear(stack: Path, tmp_path: Path) -> None:
    shutil.copytree(stack / "S2", tmp_path / "S2")
    command = ["build", "--s2", f"{tmp_path / 'S2'}", "--s1", f"{stack / 'S1'}", "--output", f"{tmp_path / 'd.zarr'}"]
    assert run([*command, "--patch", "16"]) == 0
    data = Dataset(tmp_path / "d.zarr")
    for n in range(12):
        assert set(np.unique(data.read(0, n, "s2_mask"))) <= {MISSING, CLEAR}


def test_fractions_are_rounded_and_saturation_is_clipped(tmp_path: Path) -> None:
    values = reflectance(16, 16).astype(np.float32) + 0.3
    values[:, 0, 0] = 60000
    write(tmp_path / "S2_20230301.tif", values)
    write_s1(tmp_path / "S1_20230301.tif", np.full((2, 16, 16), 0.1, np.float32))
    command = ["build", "--s2", f"{tmp_path}/S2_20230301.tif", "--s1", f"{tmp_path}/S1_20230301.tif", "--patch", "16"]
    assert run([*command, "--output", f"{tmp_path / 'd.zarr'}"]) == 0
    stored = Dataset(tmp_path / "d.zarr").read(0, 0, "s2")[0]
    np.testing.assert_array_equal(
        stored, np.minimum(reflectance(16, 16), 32767) * (values < 60000) + 32767 * (values >= 60000)
    )


def test_patches_hardly_observed_are_left_out(tmp_path: Path) -> None:
    values = reflectance(16, 48)
    values[:, :, 20:] = 0
    write(tmp_path / "S2_20230301.tif", values)
    write_s1(tmp_path / "S1_20230301.tif", np.full((2, 16, 48), 0.1, np.float32))
    command = ["build", "--s2", f"{tmp_path}/S2_20230301.tif", "--s1", f"{tmp_path}/S1_20230301.tif", "--patch", "16"]
    assert run([*command, "--output", f"{tmp_path / 'd.zarr'}"]) == 0
    data = Dataset(tmp_path / "d.zarr")
    assert [bool(patch.split) for patch in data.places[0].patches] == [True, False, False]
    assert sum(len(data.of_split(split)) for split in SPLITS) == 1


def test_memory_and_threads_change_nothing(stack: Path, whole: Dataset, tmp_path: Path) -> None:
    again = built(stack, tmp_path / "d.zarr", "--memory", "1MB", "--threads", 3)
    assert files(again.folder) == files(whole.folder)


def test_the_hash_is_of_the_data(stack: Path, whole: Dataset, tmp_path: Path) -> None:
    assert len(whole.hash) == 64
    assert built(stack, tmp_path / "same.zarr").hash == whole.hash
    assert built(stack, tmp_path / "split.zarr", "--seed", 5).hash != whole.hash
    assert built(stack, tmp_path / "dates.zarr", "--max-dates", 4).hash != whole.hash


# The split


@given(
    st.integers(16, 300),
    st.integers(16, 300),
    st.integers(-9999, 9999),
    st.integers(-9999, 9999),
    st.sampled_from((16, 40)),
)
def test_tiles_are_whole_disjoint_and_inside(height: int, width: int, row: int, col: int, patch: int) -> None:
    area = Window(row, col, max(height, patch), max(width, patch))
    found = splits.tiles(area, patch)
    assert len(found) == (area.height // patch) * (area.width // patch)
    assert all(area.contains(window) and window.shape == (patch, patch) for window in found)
    assert not any(a.intersect(b).pixels for a, b in itertools.combinations(found[:20], 2))


@given(st.integers(3, 400), st.integers(0, 50), st.integers(-9999, 9999), st.integers(-9999, 9999))
@settings(deadline=None)
def test_every_split_of_a_first_stack_has_patches(count: int, seed: int, row: int, col: int) -> None:
    side = max(1, int(count**0.5))
    windows = splits.tiles(Window(row, col, 16 * side, 16 * -(-count // side)), 16)
    rule = splits.settle(Rule((0.8, 0.1, 0.1), seed, 1, 16), "EPSG:32631", windows, None)
    found = [rule.split("EPSG:32631", window) for window in windows]
    assert set(found) == set(SPLITS)
    if len(windows) >= 100:
        assert abs(found.count("train") / len(found) - 0.8) < 0.1


@given(st.integers(-40, 40), st.integers(-40, 40), st.sampled_from((0.0, 100.0, 320.0)), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_no_two_splits_share_ground(down: int, right: int, guard: float, cell: int) -> None:
    """Two stacks that overlap anyhow: patches of different splits are apart by the guard."""
    lattice = Lattice("EPSG:32631", 10.0, 0.0, 0.0)
    rule = Rule((0.6, 0.2, 0.2), 0, cell, 16, guard, 0.3)
    others = Footprints(guard)
    first = splits.assign(rule, lattice, splits.tiles(Window(0, 50000, 96, 96), 16), others)
    second = splits.assign(rule, lattice, splits.tiles(Window(down, 50000 + right, 80, 96), 16), others)
    margin = int(guard) // 10
    for (a, mine), (b, theirs) in itertools.combinations([*first.items(), *second.items()], 2):
        if mine != theirs:
            assert not a.expand(margin).intersect(b).pixels
    assert first == splits.assign(rule, lattice, splits.tiles(Window(0, 50000, 96, 96), 16), Footprints(guard))


def test_patches_of_another_zone_are_compared_too() -> None:
    """The same ground in two UTM zones."""
    others = Footprints(0.0)
    lattice = Lattice("EPSG:32632", 10.0, 0.0, 0.0)
    from rasterio.warp import transform_bounds

    window = Window(-564000, 50000 - 22000, 128, 128)
    others.add("EPSG:32631", "val", [transform_bounds("EPSG:32632", "EPSG:32631", *lattice.bounds(window))])
    assert others.clashes("EPSG:32632", "train", lattice.bounds(window))
    assert not others.clashes("EPSG:32632", "val", lattice.bounds(window))
    assert not others.clashes("EPSG:32632", "train", lattice.bounds(Window(-564000, 50000 - 22300, 128, 128)))


def test_appending_keeps_every_patch_where_it_was(stack: Path, tmp_path: Path) -> None:
    before = built(stack, tmp_path / "d.zarr")
    other = write_stack(tmp_path / "other", 64, 64, seed=3, shift=21)
    assert run(options(other, before.folder, "--append", "--name", "other")) == 0
    after = Dataset(before.folder)
    assert [place.name for place in after.places] == [before.places[0].name, "other"]
    assert after.places[0] == before.places[0]
    assert after.hash != before.hash
    kept = [(Window(patch.row, patch.col, 16, 16), patch.split) for place in after.places for patch in place.patches]
    for (a, mine), (b, theirs) in itertools.combinations(kept, 2):
        assert mine == theirs or not a.intersect(b).pixels
    assert run(["info", f"{after.folder}", "--verify"]) == 0


def test_the_order_of_appending_does_not_change_the_hash(tmp_path: Path) -> None:
    stacks = [write_stack(tmp_path / f"{i}", 32, 32, seed=i, shift=500 * i) for i in range(3)]
    hashes = set()
    for order in ((0, 1, 2), (0, 2, 1)):
        folder = tmp_path / f"{order}.zarr"
        for i in order:
            assert run(options(stacks[i], folder, "--append", "--name", f"p{i}", *([] if i else ["--patch", 16]))) == 0
        hashes.add(Dataset(folder).hash)
    assert len(hashes) == 1


def test_a_folder_of_places_is_what_appending_them_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it stops in between and is gone on with; a folder without images of both sensors is none."""
    names = ("a", "b", "c")
    stacks = [write_stack(tmp_path / "all" / name, 32, 32, seed=i, shift=500 * i) for i, name in enumerate(names)]
    (tmp_path / "all" / "notes").mkdir()
    for i, (name, stack) in enumerate(zip(names, stacks, strict=True)):
        more = ["--append"] if i else ["--patch", 16]
        assert run(options(stack, tmp_path / "one.zarr", "--name", name, *more)) == 0
    command = ["build", "--places", f"{tmp_path / 'all'}", "--output", f"{tmp_path / 'two.zarr'}", "--patch", "16"]
    with monkeypatch.context() as patch:
        real, calls = dataset_command._build, []

        def stopping(*arguments: object, **options: object) -> None:
            calls.append(arguments)
            if len(calls) == 3:
                raise InputError("stopped")
            real(*arguments, **options)  # type: ignore[arg-type]

        patch.setattr(dataset_command, "_build", stopping)
        assert run(command) == 2
    assert not (tmp_path / "two.zarr").exists()
    assert run([*command, "--resume"]) == 0
    assert run(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert files(tmp_path / "two.zarr") == files(tmp_path / "one.zarr")
    before = files(tmp_path / "two.zarr")
    assert run([*command, "--resume"]) == 0
    assert files(tmp_path / "two.zarr") == before
    capsys.readouterr()
    for more, told in (
        (["--name", "x"], "--name is of one place"),
        (["--s2", "S2"], "--s2 is of one place"),
        (["--dry-run"], "--dry-run is of one place"),
        (["--places", f"{tmp_path / 'all' / 'notes'}"], "none of its folders"),
        (["--places", f"{tmp_path / 'nowhere'}"], "no such folder"),
    ):
        assert run([*command, "--append", *more]) == 2
        assert told in capsys.readouterr().err


# What is refused


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--patch", "128"], "give --patch 48 or smaller"),
        (["--patch", "20"], "multiple of 8"),
        (["--split", "0.5/0.2"], "TRAIN/VAL/TEST"),
        (["--split", "0.5/0.2/0.2"], "add up to 1"),
        (["--name", "../x"], "--name"),
        (["--dates", "2020-01-01/2020-12-31"], "no image from 2020-01-01"),
        (["--aoi", "0", "0", "500", "500"], "outside"),
        (["--guard", "-1"], "distance"),
        (["--nonsense"], "unrecognized"),
    ],
)
def test_refusals(more: list[str], told: str, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given_patch = [] if "--patch" in more else ["--patch", "16"]
    assert run([*options(stack, tmp_path / "d.zarr"), *given_patch, *more]) == 2
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not list(tmp_path.iterdir())


def test_one_sensor_alone_is_refused(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key, other in (("s2", "--s1"), ("s1", "--s2")):
        command = ["build", f"--{key}", f"{stack / key.upper()}", "--output", f"{tmp_path / 'd.zarr'}"]
        assert run(command) == 2
        assert capsys.readouterr().err.startswith(f"error: {other} is missing")


def test_what_is_there_is_kept(stack: Path, whole: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(whole.folder)
    for more, told in (
        ([], "--append"),
        (["--append"], "give the new one another --name"),
        (["--append", "--patch", "24", "--name", "x"], "--patch"),
        (["--append", "--seed", "7", "--name", "x"], "--seed"),
        (["--append", "--resolution", "20", "--name", "x"], "--resolution 20"),
    ):
        assert run(options(stack, whole.folder, *more)) == 2
        assert told in capsys.readouterr().err
    foreign = tmp_path / "d.zarr"
    (foreign / "mine").mkdir(parents=True)
    for more in (["--overwrite"], ["--append"], ["--resume"]):
        assert run(options(stack, foreign, "--patch", 16, *more)) == 2
    assert (foreign / "mine").exists()
    assert files(whole.folder) == before


def test_a_dry_run_writes_nothing(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(options(stack, tmp_path / "d.zarr", "--patch", 16, "--dry-run")) == 0
    assert "12 of 16 x 16 pixels" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_without_zarr_it_says_what_to_install(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert run(options(stack, tmp_path / "d.zarr")) == 2
    assert "pip install 'malice-core[train]'" in capsys.readouterr().err


# info


def test_info_describes(whole: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", f"{whole.folder}"]) == 0
    text = capsys.readouterr().out
    assert whole.hash in text
    assert "6 dates, 2023-03-01 to 2023-04-20" in text
    assert run(["info", f"{whole.folder}", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert sum(content["patches"].values()) == 12
    (place,) = content["places"]
    # Four and a half of six dates are observed; of those, half of 2.5 classified ones is cloud.
    assert place["sensors"]["s2"]["observed"] == pytest.approx(4.5 / 6)
    assert place["sensors"]["s2"]["cloud"] == pytest.approx(0.5 * 2.5 / 4.5, abs=0.02)
    assert place["sensors"]["s1"]["cloud"] == 0
    assert place["sensors"]["s2"]["ranges"]["B02"][1] == pytest.approx(2100, rel=0.3)
    assert content["warnings"] == []


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda d, p: (d / p / "s1/c/3/0/0/0/0").unlink(), "missing"),
        (lambda d, p: (d / p / "s2_mask/c/0/0/0/0").write_bytes(b""), "empty"),
        (lambda d, p: _flip(d / p / "s2/c/2/0/0/0/0"), ""),
        (lambda d, p: _flip(d / p / "s1_mask/c/2/0/0/0"), ""),
        (lambda d, p: (d / p / "s2/zarr.json").write_text("{"), "cannot be opened"),
        (lambda d, p: shutil.rmtree(d / p / "s1_counts"), "cannot be opened"),
        (lambda d, p: (d / p / "zarr.json").unlink(), "no zarr.json"),
        (lambda d, p: (d / "zarr.json").write_text("x"), "cannot be read"),
        (lambda d, p: (d / "zarr.json").write_text('{"node_type": "group", "attributes": {}}'), "no dataset"),
        (
            lambda d, p: (d / "zarr.json").write_text(
                (d / "zarr.json").read_text().replace('"format": 1', '"format": 9')
            ),
            "version 9",
        ),
        (lambda d, p: shutil.rmtree(d), "no such dataset"),
    ],
)
def test_info_finds_damage(
    damage: Callable[[Path, str], object],
    told: str,
    whole: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "d.zarr"
    shutil.copytree(whole.folder, copy)
    damage(copy, whole.places[0].name)
    assert run(["info", f"{copy}", "--verify"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert told in line
    assert f"{copy}" in line


def test_a_small_real_scene_has_train_and_val(testdata: Path, tmp_path: Path) -> None:
    """64 x 64 pixels; the README's command."""
    site = testdata / "data" / "site_a"
    command = ["build", "--s2", f"{site / 'S2'}", "--s1", f"{site / 'S1_10m'}", "--scl", f"{site / 'SCL'}"]
    assert run([*command, "--patch", "32", "--output", f"{tmp_path / 'd.zarr'}"]) == 0
    data = Dataset(tmp_path / "d.zarr")
    assert {split: len(data.of_split(split)) for split in SPLITS} == {"train": 2, "val": 1, "test": 1}
    assert {key: len(one.days) for key, one in data.places[0].series.items()} == {"s1": 159, "s2": 118}
