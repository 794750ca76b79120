"""Labels, places and samples of fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("torchmetrics")

from helpers_finetune import (  # noqa: E402
    HEIGHT,
    WIDTH,
    box,
    classes,
    settings,
    write_geojson,
    write_geopackage,
    write_pastis,
    write_scene,
)
from helpers_stack import LEFT, TOP, write  # noqa: E402
from rasterio.warp import transform_geom  # noqa: E402

from malice_core.errors import InputError  # noqa: E402
from malice_core.grid import Lattice, Window  # noqa: E402
from malice_core.training.finetuning import labels as labelling  # noqa: E402
from malice_core.training.finetuning.labels import NONE  # noqa: E402
from malice_core.training.finetuning.pastis import Pastis  # noqa: E402
from malice_core.training.finetuning.places import SPLITS, Places  # noqa: E402
from malice_core.training.finetuning.samples import PixelBatches, Pixels, RandomCrops  # noqa: E402
from malice_core.training.finetuning.sites import Site  # noqa: E402

BOTH = ("s2", "s1")
LATTICE = Lattice.anchored("EPSG:32631", 10, LEFT, TOP)
EXTENT = LATTICE.window(LEFT, TOP - 10 * HEIGHT, LEFT + 10 * WIDTH, TOP)
#: Fields of the scene's polygons: row, column, height, width, class.
FIELDS = [(8 * r, 8 * c, 8, 8, 1 + (r + c) % 3) for r in range(HEIGHT // 8) for c in range(WIDTH // 8)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def opened() -> Iterator[Any]:
    """Opens sites and closes them again."""
    made: list[Places] = []

    def site(*given: str) -> Site:
        made.append(Site(settings(*given), BOTH))
        return made[-1]  # type: ignore[return-value]

    yield site
    for one in made:
        one.close()


def polygons() -> tuple[list[Any], list[int]]:
    return [box(*field[:4]) for field in FIELDS], [field[4] for field in FIELDS]


# Labels


def test_polygons_and_the_raster_of_them_are_the_same_training_set(scene: Path, tmp_path: Path, opened: Any) -> None:
    shapes, values = polygons()
    files = [
        write_geojson(tmp_path / "l.geojson", shapes, values),
        write_geopackage(tmp_path / "l.gpkg", shapes, values),
        write(tmp_path / "l.tif", classes()[None], names=None),
    ]
    sites = [opened(f"data.labels={path}", f"data.s2={scene / 'S2'}") for path in files]
    first = sites[-1]
    assert first.legend.labels == (1, 2, 3)
    for site in sites[:-1]:
        assert site.legend == first.legend
        assert len(site) == len(first)
        for tile in range(len(first)):
            for split in SPLITS:
                np.testing.assert_array_equal(site.target(tile, split), first.target(tile, split))
    target = first.target(0, "train")
    assert (target[target >= 0] == classes()[target[:HEIGHT, :WIDTH] >= 0] - 1).all()


def test_polygons_of_another_crs_have_the_same_pixels(tmp_path: Path) -> None:
    # A little inside, so that rounding decides nothing.
    shapes = [
        [
            [(x + (3 if x == ring[0][0] else -3), y - (3 if y == ring[0][1] else -3)) for x, y in ring]
            for ring in box(*f[:4])
        ]
        for f in FIELDS
    ]
    moved = [
        transform_geom("EPSG:32631", "OGC:CRS84", {"type": "Polygon", "coordinates": rings})["coordinates"]
        for rings in shapes
    ]
    values = ["wheat" if field[4] == 1 else f"crop {field[4]}" for field in FIELDS]
    path = write_geojson(tmp_path / "l.geojson", moved, values, crs=None)
    found = labelling.read(path, LATTICE, EXTENT)
    assert found.window == EXTENT
    assert dict(found.names) == {1: "crop 2", 2: "crop 3", 3: "wheat"}
    np.testing.assert_array_equal(found.labels, np.array([3, 1, 2])[classes() - 1])


def test_holes_overlaps_and_missing_values(tmp_path: Path) -> None:
    outer, hole = box(0, 0, 8, 8), box(2, 2, 3, 3)
    shapes = [[outer[0], hole[0]], box(6, 6, 4, 4), box(20, 20, 2, 2)]
    found = labelling.read(write_geojson(tmp_path / "l.geojson", shapes, [5, 9, None]), LATTICE, EXTENT)
    assert found.window.shape == (10, 10)
    wanted = np.full((10, 10), NONE)
    wanted[:8, :8] = 5
    wanted[2:5, 2:5] = NONE
    wanted[6:, 6:] = 9  # of two polygons the later one
    np.testing.assert_array_equal(found.labels, wanted)


def test_part_of_a_raster_that_has_images_counts(tmp_path: Path) -> None:
    values = np.arange(1, 101, dtype=np.int16).reshape(1, 10, 10)
    path = write(tmp_path / "l.tif", values, names=None, left=LEFT - 40, top=TOP + 30, nodata=45)
    found = labelling.read(path, LATTICE, EXTENT)
    assert found.window == Window(EXTENT.row, EXTENT.col, 7, 6)
    wanted = values[0, 3:, 4:].astype(np.int32)
    wanted[wanted == 45] = NONE
    np.testing.assert_array_equal(found.labels, wanted)


@pytest.mark.parametrize(("nodata", "ignore", "none"), [(0, None, 0), (None, None, 0), (255, None, 255), (255, 7, 7)])
def test_what_is_no_label(tmp_path: Path, nodata: int | None, ignore: int | None, none: int) -> None:
    values = np.resize(np.array([0, 1, 7, 255], np.uint8), (1, 8, 8))
    found = labelling.read(write(tmp_path / "l.tif", values, names=None, nodata=nodata), LATTICE, EXTENT, ignore=ignore)
    assert (found.labels[values[0] == none] == NONE).all()
    assert (found.labels[values[0] == 1] == 1).all()
    # 0 is a class where another label is said to be none.
    assert (found.labels[values[0] == 0] == 0).any() == (ignore is not None)


@pytest.mark.parametrize(
    ("present", "codes", "nodata"),
    [
        ([3, 1, 7], [1, 3, 7], 0),
        ([0, 18, 4], [0, 4, 18], 255),
        ([0, 255], [1, 2], 0),
        ([-1, 900], [1, 2], 0),
        ([1, 255], [1, 255], 0),
    ],
)
def test_values_of_classes(present: list[int], codes: list[int], nodata: int) -> None:
    found = labelling.legend(present, {3: "wheat"})
    assert [one.code for one in found.classes] == codes
    assert found.nodata == nodata
    assert nodata not in codes
    assert len({one.colour for one in found.classes}) == len(codes)
    assert [one.name for one in found.classes] == ["wheat" if label == 3 else f"{label}" for label in sorted(present)]
    index = found.index(np.array([NONE, *sorted(present), 12345], np.int32))
    np.testing.assert_array_equal(index, [-1, *range(len(codes)), -1])


def test_labels_that_cannot_be_used(tmp_path: Path) -> None:
    shapes, values = polygons()
    far = [[[(x + 1e6, y) for x, y in ring] for ring in shape] for shape in shapes]
    (tmp_path / "point.geojson").write_text(
        json.dumps({"features": [{"properties": {"crop": 1}, "geometry": {"type": "Point", "coordinates": [0, 0]}}]})
    )
    (tmp_path / "text.geojson").write_text("no json")
    (tmp_path / "cut.gpkg").write_bytes(b"SQLite format 3\0" + bytes(50))
    numbers = np.ones((1, 8, 8), np.float32)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "none.tif", {}, "none.tif"),
        (write(tmp_path / "f.tif", numbers, names=None), {}, "whole numbers"),
        (write(tmp_path / "b.tif", numbers.astype(np.uint8), names=None), {"band": 2}, "data.band=2"),
        (tmp_path / "b.tif", {"ignore": 1}, "no label"),
        (write(tmp_path / "half.tif", numbers.astype(np.uint8), names=None, left=LEFT + 5), {}, "pixels of the images"),
        (write(tmp_path / "crs.tif", numbers.astype(np.uint8), names=None, crs="EPSG:32632"), {}, "grid of the images"),
        (write_geojson(tmp_path / "far.geojson", far, values), {}, "no label"),
        (write_geojson(tmp_path / "crs.geojson", shapes, values, "EPSG:1"), {}, "EPSG:1"),
        (write_geojson(tmp_path / "good.geojson", shapes, values), {"field": "kind"}, "it has crop"),
        (write_geojson(tmp_path / "half.geojson", shapes, [1.5] * len(values)), {}, "1.5"),
        (write_geojson(tmp_path / "names.geojson", shapes, ["a"] * len(values)), {"ignore": 3}, "texts"),
        (tmp_path / "point.geojson", {}, "Point"),
        (tmp_path / "text.geojson", {}, "text.geojson"),
        (tmp_path / "cut.gpkg", {}, "cut.gpkg"),
        (write_geopackage(tmp_path / "two.gpkg", shapes, values, ("a", "b")), {}, "layers a, b"),
        (tmp_path / "two.gpkg", {"layer": "c"}, "it has a, b"),
        (tmp_path / "old.shp", {}, "GeoPackage"),
    ]
    for path, options, told in cases:
        with pytest.raises(InputError) as error:
            labelling.read(path, LATTICE, EXTENT, **options)
        assert told in str(error.value), path


# A site


def test_the_split_is_by_blocks_with_a_guard(scene: Path, opened: Any) -> None:
    site = opened(f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}", "data.guard=2")
    masks = {split: site.target(0, split) >= 0 for split in SPLITS}
    assert (sum(mask.astype(int) for mask in masks.values()) <= 1).all()
    assert all(mask.sum() > 30 for mask in masks.values())
    held = masks["val"] | masks["test"]
    for row, col in np.argwhere(masks["train"]):
        assert not held[max(0, row - 2) : row + 3, max(0, col - 2) : col + 3].any()
    # Every pixel of a block is of one split.
    for row in range(0, HEIGHT, 8):
        for col in range(0, WIDTH, 8):
            block = (slice(row, row + 8), slice(col, col + 8))
            assert sum(masks[split][block].any() for split in ("val", "test")) <= 1


def test_crops_are_cut_out_of_the_tile(scene: Path, opened: Any) -> None:
    more = [f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}", f"data.s1={scene / 'S1'}"]
    kept, read = opened(*more, "mode=full"), opened(*more, "mode=frozen")
    rows, cols = slice(8, 24), slice(40, 56)
    for sensor in BOTH:
        whole = kept.view(0, sensor)
        side = 64 + 2 * kept.halo
        assert whole.images.shape[-2:] == (side, side)
        one, other = kept.crop(0, sensor, rows, cols), read.crop(0, sensor, rows, cols)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.observed, other.observed)
        assert one.images.shape[-2:] == (16, 16)


def test_crops_hold_a_label_and_are_a_function_of_seed_epoch_and_index(scene: Path, opened: Any) -> None:
    site = opened(f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}", "mode=full")
    made = RandomCrops(site, 16, 2, seed=3)
    starts = set()
    for epoch in range(12):
        sample, target = made[epoch, 0]
        again, same = made[epoch, 0]
        assert torch.equal(target, same)
        assert torch.equal(sample.views["s2"].images, again.views["s2"].images)
        assert (target >= 0).any()
        assert len(sample.views["s2"].days) == 2
        starts.add(sample.views["s2"].images[0, 0, 0, 0].item())
    assert len(starts) > 3


def test_batches_hold_every_pixel_once_an_epoch() -> None:
    pixels = Pixels(torch.arange(50.0)[:, None], torch.arange(50))
    batches = PixelBatches(pixels, 8, seed=1)
    epochs = [torch.cat([batches[epoch, i].target for i in range(len(batches))]) for epoch in (0, 1)]
    for one in epochs:
        assert sorted(one.tolist()) == list(range(50))
    assert not torch.equal(*epochs)
    assert torch.equal(batches[0, 3].features[:, 0].long(), batches[0, 3].target)


def test_classes_without_a_pixel_to_train_on_are_told(scene: Path, tmp_path: Path, opened: Any) -> None:
    shapes, values = polygons()
    site = opened(f"data.labels={write_geojson(tmp_path / 'l.geojson', shapes, values)}", f"data.s2={scene / 'S2'}")
    test = np.argwhere(site.target(0, "test") >= 0)[0]
    shapes.append(box(int(test[0]), int(test[1]), 1, 1))
    path = write_geojson(tmp_path / "m.geojson", shapes, [*values, 77])
    for seed in range(20):
        other = opened(f"data.labels={path}", f"data.s2={scene / 'S2'}", f"seed={seed}")
        if 77 not in other.legend.labels:
            assert any("77" in note for note in other.notes)
            assert other.target(0, "test").max() == 2
            return
    pytest.fail("the pixel was always trained on")


# PASTIS-R


def test_pastis_gives_what_numpy_computes(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")
    places = Pastis(settings(f"data.pastis={folder}"), BOTH)
    assert [places.name(tile) for tile in range(5)] == [f"patch {100 + i}" for i in range(5)]
    assert [one.name for one in places.legend.classes] == ["background", "meadow", "soft winter wheat"]
    assert ([one.code for one in places.legend.classes], places.legend.nodata) == ([0, 1, 2], 255)
    for tile in range(5):
        split = ["train", "train", "train", "val", "test"][tile]
        s2 = np.load(folder / "DATA_S2" / f"S2_{100 + tile}.npy").astype(np.float64)
        s1 = np.load(folder / "DATA_S1A" / f"S1A_{100 + tile}.npy").astype(np.float64)
        raw = np.load(folder / "ANNOTATIONS" / f"TARGET_{100 + tile}.npy")[0].astype(int)
        np.testing.assert_array_equal(places.target(tile, split), np.where(raw == 19, -1, raw))
        for other in set(SPLITS) - {split}:
            assert (places.target(tile, other) == -1).all()
        optical, radar = places.view(tile, "s2"), places.view(tile, "s1")
        lost = (s2 == 0).all(1) | (s2 == -10000).all(1)
        np.testing.assert_array_equal(optical.observed[0].numpy(), ~lost)
        np.testing.assert_allclose(optical.images[0].numpy(), np.where(lost[:, None], 0, s2))
        dead = np.isnan(s1[:, 0])
        np.testing.assert_array_equal(radar.observed[0].numpy(), ~dead)
        np.testing.assert_allclose(
            radar.images[0].numpy(), np.where(dead[:, None], 0, 10 ** (s1[:, :2] / 10)), rtol=1e-5
        )
        # 2018-09-24 is day 1666 since 2014-03-03; dates go by their number, not as they lie in the file.
        assert optical.days.tolist() == [[1666, 1706, 1765, 1855]]
        assert radar.days.tolist() == [[1673, 1685, 1770]]
    cut = places.crop(0, "s2", slice(0, 16), slice(0, 16))
    assert torch.equal(cut.images, places.view(0, "s2").images)


def test_pastis_folders_that_cannot_be_used(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")
    one = folder / "DATA_S2" / "S2_100.npy"

    def told(*given: str, have: tuple[str, ...] = BOTH, read: bool = False) -> str:
        def use() -> None:
            places = Pastis(settings(f"data.pastis={folder}", *given), have)
            if read:
                places.view(0, "s2")

        with pytest.raises(InputError) as error:
            use()
        return str(error.value)

    assert "no patch" in told("data.train_folds=[7]", "data.val_folds=[8]", "data.test_folds=[]")
    assert "0 classes to train on" in told("data.train_folds=[7]", "data.val_folds=[4]")
    assert "no S1 encoder" in told(have=("s2",))
    assert "taken whole" in told("data.max_dates=3")
    assert "named twice" in told("data.val_folds=[1]")
    radar, optical = (folder / "DATA_S1A" / "S1A_100.npy", np.load(folder / "DATA_S1A" / "S1A_100.npy")), np.load(one)
    np.save(radar[0], 10 ** (radar[1] / 10))
    assert "DATA_S1A" in told()
    np.save(radar[0], radar[1])
    np.save(one, optical / np.float32(10000))
    assert "reflectance x 10000" in told()
    np.save(one, optical)
    np.save(one, np.load(one)[:3])
    assert "S2_100.npy" in told(read=True)
    np.save(one, np.array([{"a": 1}], object), allow_pickle=True)
    assert "S2_100.npy" in told(read=True)
    (folder / "DATA_S1A").rename(folder / "DATA_S1D")
    assert "data.sensors=[s2]" in told()
    target = folder / "ANNOTATIONS" / "TARGET_101.npy"
    np.save(target, np.zeros((3, 12, 16), np.uint8))
    assert "TARGET_101.npy" in told("data.sensors=[s2]")
    target.unlink()
    assert "TARGET_101.npy" in told("data.sensors=[s2]")
    meta = folder / "metadata.geojson"
    content = json.loads(meta.read_text())
    content["features"][2]["properties"]["dates-S2"] = {"0": 20189999}
    meta.write_text(json.dumps(content))
    assert "feature 2" in told("data.sensors=[s2]")
    meta.write_text("[]")
    assert "metadata.geojson" in told("data.sensors=[s2]")
    meta.unlink()
    assert "metadata.geojson" in told("data.sensors=[s2]")
