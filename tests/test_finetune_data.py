"""Labels, places and samples of fine-tuning."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

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
    write_scene,
)
from helpers_stack import LEFT, TOP, write  # noqa: E402
from rasterio.warp import transform_geom  # noqa: E402

from malice_core.errors import InputError  # noqa: E402
from malice_core.grid import Lattice, Window  # noqa: E402
from malice_core.images.reading import Pool  # noqa: E402
from malice_core.training.finetuning import labels as labelling  # noqa: E402
from malice_core.training.finetuning import sites  # noqa: E402
from malice_core.training.finetuning.labels import NONE, Labelled  # noqa: E402
from malice_core.training.finetuning.places import SPLITS, TEST, VAL, Places, unscored  # noqa: E402
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


def given_labels(found: Labelled) -> np.ndarray[Any, Any]:
    """(H, W) labels as they were given, NONE where there is none."""
    return np.array([*found.values, NONE])[found.index]


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
    np.testing.assert_array_equal(given_labels(found), np.array([3, 1, 2])[classes() - 1])


def test_holes_overlaps_and_missing_values(tmp_path: Path) -> None:
    outer, hole = box(0, 0, 8, 8), box(2, 2, 3, 3)
    shapes = [[outer[0], hole[0]], box(6, 6, 4, 4), box(20, 20, 2, 2)]
    found = labelling.read(write_geojson(tmp_path / "l.geojson", shapes, [5, 9, None]), LATTICE, EXTENT)
    assert found.window.shape == (10, 10)
    wanted = np.full((10, 10), NONE)
    wanted[:8, :8] = 5
    wanted[2:5, 2:5] = NONE
    wanted[6:, 6:] = 9  # of two polygons the later one
    np.testing.assert_array_equal(given_labels(found), wanted)


def test_texts_are_cleaned_and_empty_geometries_left_out(tmp_path: Path) -> None:
    """Blanks around a text mean nothing, an empty text is no class; files may begin with a byte order mark."""
    shapes = [box(0, 0, 4, 4), box(0, 4, 4, 4), box(4, 0, 4, 4), box(4, 4, 4, 4)]
    path = write_geojson(tmp_path / "l.geojson", shapes, ["a", " a ", "", "b"])
    content = json.loads(path.read_text())
    nothing = [("Polygon", []), ("MultiPolygon", []), ("MultiPolygon", [[]])]
    content["features"] += [
        {"type": "Feature", "properties": {"crop": "c"}, "geometry": {"type": kind, "coordinates": coordinates}}
        for kind, coordinates in nothing
    ]
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    found = labelling.read(path, LATTICE, EXTENT)
    assert set(found.names.values()) == {"a", "b"}
    wanted = np.full((8, 8), NONE)
    wanted[:4], wanted[4:, 4:] = 1, 2
    np.testing.assert_array_equal(given_labels(found), wanted)


def test_names_are_one_line_that_can_be_written(tmp_path: Path) -> None:
    """A text of several lines is no other class than the same in one; half a character is none that a file can hold."""
    shapes = [box(0, 4 * number, 4, 4) for number in range(5)]
    values = ["soft\nwheat", " soft \t wheat", "a\x00b", "\ud800", "maïs, doux"]
    found = labelling.read(write_geojson(tmp_path / "l.geojson", shapes, values), LATTICE, EXTENT)
    assert sorted(found.names.values()) == ["?", "a b", "maïs, doux", "soft wheat"]
    assert (given_labels(found)[:, :4] == given_labels(found)[:, 4:8]).all()
    assert labelling.names_of({1: "soft\nwheat"}) == {1: "soft wheat"}


@pytest.mark.parametrize("how", ["tiny", "covered", "elsewhere"])
def test_polygons_without_a_pixel_are_told(tmp_path: Path, how: str) -> None:
    """Their class is gone with them: too small to hold a centre, under a later one, or where there are no images."""
    lost = {
        "tiny": [[(LEFT + 1, TOP - 1), (LEFT + 3, TOP - 1), (LEFT + 3, TOP - 3), (LEFT + 1, TOP - 1)]],
        "covered": box(0, 0, 4, 4),
        "elsewhere": box(HEIGHT + 5, 0, 4, 4),
    }[how]
    shapes = [lost, box(0, 0, 8, 8), box(8, 8, 8, 8)]
    found = labelling.read(write_geojson(tmp_path / "l.geojson", shapes, ["rye", "oats", "wheat"]), LATTICE, EXTENT)
    (note,) = found.notes
    assert "1 of 3 polygons have no pixel" in note
    assert note.endswith("left out: rye")
    # Where the class has pixels elsewhere, only the polygon is gone.
    (note,) = labelling.read(write_geojson(tmp_path / "m.geojson", shapes, [2, 1, 2]), LATTICE, EXTENT).notes
    assert "1 of 3 polygons" in note
    assert "left out" not in note
    # What is ignored is not missed.
    path = write_geojson(tmp_path / "n.geojson", shapes, [3, 1, 2])
    assert labelling.read(path, LATTICE, EXTENT, ignore=3).notes == ()


def test_what_a_mask_covers_is_no_label(tmp_path: Path) -> None:
    values = classes()[None]
    path = write(tmp_path / "l.tif", values, names=None, nodata=None)
    mask = np.full(values.shape[1:], 255, np.uint8)
    mask[:20] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
    found = labelling.read(path, LATTICE, EXTENT)
    np.testing.assert_array_equal(given_labels(found), np.where(mask > 0, values[0].astype(int), NONE))


def test_part_of_a_raster_that_has_images_counts(tmp_path: Path) -> None:
    values = np.arange(1, 101, dtype=np.int16).reshape(1, 10, 10)
    path = write(tmp_path / "l.tif", values, names=None, left=LEFT - 40, top=TOP + 30, nodata=45)
    found = labelling.read(path, LATTICE, EXTENT)
    assert found.window == Window(EXTENT.row, EXTENT.col, 7, 6)
    wanted = values[0, 3:, 4:].astype(np.int32)
    wanted[wanted == 45] = NONE
    np.testing.assert_array_equal(given_labels(found), wanted)


@pytest.mark.parametrize(("nodata", "ignore", "none"), [(0, None, 0), (None, None, 0), (255, None, 255), (255, 7, 7)])
def test_what_is_no_label(tmp_path: Path, nodata: int | None, ignore: int | None, none: int) -> None:
    values = np.resize(np.array([0, 1, 7, 255], np.uint8), (1, 8, 8))
    found = labelling.read(write(tmp_path / "l.tif", values, names=None, nodata=nodata), LATTICE, EXTENT, ignore=ignore)
    labels = given_labels(found)
    assert (labels[values[0] == none] == NONE).all()
    assert (labels[values[0] == 1] == 1).all()
    # 0 is none where nothing else is said to be.
    assert (labels[values[0] == 0] == 0).any() == (nodata not in (0, None) or ignore is not None)
    # Where nobody decided that, the run tells what it did.
    told = "".join(found.notes)
    assert ("16 pixels of 0" in told) == (nodata is None and ignore is None)
    assert ("0 is a class" in told) == (nodata == 255 and ignore is None)


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
    with closing(sqlite3.connect(write_geopackage(tmp_path / "column.gpkg", shapes, values))) as base, base:
        base.execute("UPDATE gpkg_geometry_columns SET column_name = 'shape'")
    for kind, coordinates in (("Polygon", []), ("MultiPolygon", [[]]), ("Polygon", [[]])):
        feature = {"properties": {"crop": 1}, "geometry": {"type": kind, "coordinates": coordinates}}
        name = f"{kind}{len(coordinates)}.geojson"
        (tmp_path / name).write_text(json.dumps({"features": [feature]}))
    huge = {"type": "Polygon", "coordinates": [[[10**400, 1], [1, 2], [3, 4], [1, 1]]]}
    (tmp_path / "huge.geojson").write_text(json.dumps({"features": [{"properties": {"crop": 1}, "geometry": huge}]}))
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
        (tmp_path / "huge.geojson", {}, "too large"),
        (tmp_path / "cut.gpkg", {}, "cut.gpkg"),
        (tmp_path / "column.gpkg", {}, "no column shape"),
        (tmp_path / "Polygon0.geojson", {}, "no polygon with a value"),
        (tmp_path / "MultiPolygon1.geojson", {}, "no polygon with a value"),
        (tmp_path / "Polygon1.geojson", {}, "a ring of 0 points"),
        (write_geojson(tmp_path / "line.geojson", [[[(LEFT, TOP)] * 2 + [(LEFT, TOP - 50)] * 2]], [1]), {}, "no area"),
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


def test_what_the_images_leave_in_doubt_is_told(scene: Path, tmp_path: Path, opened: Any) -> None:
    """What embed would warn of, with the keys of data in place of its options."""
    for path in sorted((scene / "S2").glob("*.tif")):
        with rasterio.open(path) as file:
            write(tmp_path / "S2" / path.name, file.read() + np.uint16(1200))
    given = [f"data.labels={scene / 'labels.tif'}", f"data.s2={tmp_path / 'S2'}"]
    site = opened(*given)
    assert any("04.00 seems to be in the data; if so, give data.s2_offset=-1000" in note for note in site.notes)
    assert not any("--" in note for note in site.notes)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("data.dates=x", "data.dates=x: give START/END"),
        ("data.dates=2031-01-01/2032-01-01", "change data.dates"),
        ("class_names={1: wheat, 2: wheat}", "labels 1 and 2 are both called wheat"),
        ("class_names={1: '2'}", "labels 1 and 2 are both called 2"),
        ("class_names={1: ' '}", "must be names by label"),
        ("data.s1_orbit=7", "no image of relative orbit 7"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_given(scene: Path, opened: Any, given: str, told: str) -> None:
    images = [f"data.{sensor}={scene / sensor.upper()}" for sensor in BOTH]
    with pytest.raises(InputError) as error:
        opened(f"data.labels={scene / 'labels.tif'}", *images, given)
    assert told in str(error.value)
    assert "--" not in str(error.value)


def test_labels_below_zero_are_told(scene: Path, tmp_path: Path, opened: Any) -> None:
    path = write(tmp_path / "l.tif", classes()[None].astype(np.int16) - 2, names=None, nodata=None)
    given = [f"data.labels={path}", f"data.s2={scene / 'S2'}"]
    site = opened(*given)
    assert site.legend.labels == (-1, 1)
    assert "labels below 0 are classes: -1; ignore_index=-1 leaves that one out" in site.notes
    assert not any("below 0" in note for note in opened(*given, "ignore_index=-1").notes)


def test_classes_that_no_score_is_of_are_told(scene: Path, tmp_path: Path, opened: Any) -> None:
    site = opened(f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}")
    assert unscored(site) == []
    kept = site._classes.copy()
    site._classes[(site._splits == VAL) & (kept == 1)] = -1
    assert unscored(site) == ["classes without a pixel in validation have no share in its means: 2"]
    site._classes[(site._splits == TEST) & (kept != 1)] = -1
    assert unscored(site)[1] == "classes without a pixel in the test have no share in its means: 1, 3"


def test_names_of_labels_that_do_not_occur_are_told(scene: Path, opened: Any) -> None:
    site = opened(
        f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}", "class_names={1: ' wheat', 9: oats}"
    )
    assert [one.name for one in site.legend.classes] == ["wheat", "2", "3"]
    assert "class_names: no pixel has the label 9" in site.notes


def test_a_site_that_cannot_be_used_leaves_no_file_open(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Pool] = []
    closed: list[Pool] = []
    make, close = Pool.__init__, Pool.close
    monkeypatch.setattr(Pool, "__init__", lambda self, *given: (made.append(self), make(self, *given))[1])
    monkeypatch.setattr(Pool, "close", lambda self: (closed.append(self), close(self))[1])
    images = [f"data.{sensor}={scene / sensor.upper()}" for sensor in BOTH]
    with pytest.raises(InputError, match=r"none\.tif"):
        Site(settings(f"data.labels={tmp_path / 'none.tif'}", *images), BOTH)
    assert len(made) >= 2
    assert set(map(id, made)) == set(map(id, closed))


def test_images_are_kept_in_a_share_of_the_memory_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 20}[name])
    limit = tmp_path / "max"
    monkeypatch.setattr(sites, "_LIMITS", (f"{limit}",))
    assert sites.kept_bytes() == 1 << 30
    limit.write_text("max\n")
    assert sites.kept_bytes() == 1 << 30
    limit.write_text("1000000\n")
    assert sites.kept_bytes() == 250000
