"""How labelled pixels are dealt out to training, validation and test; and the memory that takes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("torchmetrics")

from helpers_finetune import box, settings, write_geojson, write_pastis, write_scene  # noqa: E402
from helpers_stack import LEFT, TOP, write  # noqa: E402

from malice_core.errors import InputError  # noqa: E402
from malice_core.evaluation.folds import spatial_folds  # noqa: E402
from malice_core.grid import Lattice  # noqa: E402
from malice_core.training.finetuning import labels as labelling  # noqa: E402
from malice_core.training.finetuning import samples, split  # noqa: E402
from malice_core.training.finetuning.labels import Labelled  # noqa: E402
from malice_core.training.finetuning.pastis import Pastis  # noqa: E402
from malice_core.training.finetuning.places import TEST, TRAIN, VAL  # noqa: E402
from malice_core.training.finetuning.sites import Site  # noqa: E402

LATTICE = Lattice.anchored("EPSG:32631", 10, LEFT, TOP)
SIDE = 160
EXTENT = LATTICE.window(LEFT, TOP - 10 * SIDE, LEFT + 10 * SIDE, TOP)


def of(values: np.ndarray[Any, Any], tmp_path: Path) -> Labelled:
    """Labels of a raster of them, 0 for none."""
    return labelling.read(write(tmp_path / "l.tif", values[None].astype(np.uint8), names=None), LATTICE, EXTENT)


def near(mask: np.ndarray[Any, Any], by: int) -> np.ndarray[Any, Any]:
    """Pixels up to ``by`` rows and columns from a True one, one shift at a time."""
    found = np.zeros_like(mask)
    for row, col in np.argwhere(mask):
        found[max(0, row - by) : row + by + 1, max(0, col - by) : col + by + 1] = True
    return found


@pytest.mark.parametrize("strip", [300, 1 << 20])
def test_a_raster_is_split_as_spatial_folds_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strip: int) -> None:
    """The same folds as of whole arrays, whatever the strips; the guard is that of a computation by hand."""
    monkeypatch.setattr(labelling, "STRIP", strip)
    rng = np.random.default_rng(0)
    values = rng.choice(4, (50, 70), p=[0.9, 0.04, 0.04, 0.02])
    found = of(values, tmp_path)
    dealt = split.deal(found, {}, folds=5, block=9, guard=2, seed=3)
    fold = spatial_folds(values, 5, block=9, min_pixels=0, seed=3).fold
    test, val = fold == 4, fold == 3
    wanted = np.where((fold >= 0) & ~near(test | val, 2), TRAIN, -1)
    wanted[val & ~near(test, 2)] = VAL
    wanted[test] = TEST
    np.testing.assert_array_equal(dealt.parts, wanted)


def test_a_field_is_never_on_both_sides(tmp_path: Path) -> None:
    """Neither one that crosses blocks nor one drawn in two polygons; a feature of many polygons is not one field."""
    fields, values, together = [], [], []
    for number in range(36):
        row, col = 26 * (number // 6), 26 * (number % 6)
        # Two polygons that touch are one field.
        fields += [[box(row, col, 11, 19)], [box(row + 11, col, 8, 19)]]
        values += [1 + number % 2] * 2
        together.append((slice(row, row + 19), slice(col, col + 19)))
    path = write_geojson(tmp_path / "l.geojson", [one for (one,) in fields], values)
    found = labelling.read(path, LATTICE, EXTENT)
    dealt = split.deal(found, {}, folds=5, block=16, guard=0)
    for part in together:
        assert len(np.unique(dealt.parts[part])) == 1
    counts = [(dealt.parts == part).sum() for part in (TRAIN, VAL, TEST)]
    assert min(counts) >= 3 * 19 * 19
    # All polygons of a class as one feature.
    content = {
        "type": "FeatureCollection",
        "crs": {"properties": {"name": "EPSG:32631"}},
        "features": [
            {
                "properties": {"crop": kind},
                "geometry": {
                    "type": "MultiPolygon",
                    "coordinates": [f[0] for f, v in zip(fields, values, strict=True) if v == kind],
                },
            }
            for kind in (1, 2)
        ],
    }
    (tmp_path / "m.geojson").write_text(json.dumps(content))
    again = split.deal(labelling.read(tmp_path / "m.geojson", LATTICE, EXTENT), {}, folds=5, block=16, guard=0)
    assert [(again.parts == part).sum() for part in (TRAIN, VAL, TEST)] == counts


def test_strips_change_nothing_of_polygons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    shapes = [box(*map(int, rng.integers(0, 130, 2)), *map(int, rng.integers(2, 30, 2))) for _ in range(60)]
    path = write_geojson(tmp_path / "l.geojson", shapes, rng.integers(1, 4, 60).tolist())
    made = []
    for strip in (1000, 1 << 20):
        monkeypatch.setattr(labelling, "STRIP", strip)
        found = labelling.read(path, LATTICE, EXTENT)
        assert found.pieces is not None
        made.append((found.index, found.pieces, split.deal(found, {}, folds=4, block=20, guard=3).parts))
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)
    # Fields are of one class, and touch no other field of it.
    index, pieces, _ = made[0]
    for one, other in (((slice(None), slice(1, None)), (slice(None), slice(-1))), ((slice(1, None),), (slice(-1),))):
        same = (index[one] == index[other]) & (index[one] >= 0)
        assert (pieces[one] == pieces[other])[same].all()


def test_the_guard_is_as_wide_as_labels_allow(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sparse = np.zeros((SIDE, SIDE), int)
    # Places of 4 x 4 pixels, 53 apart.
    for number in range(9):
        row, col = 53 * (number // 3), 53 * (number % 3)
        sparse[row : row + 4, col : col + 4] = rng.integers(1, 3, (4, 4))
    whole = rng.integers(1, 3, (SIDE, SIDE))
    assert split.deal(of(sparse, tmp_path), {}, folds=4, block=32).guard == 48
    narrow = split.deal(of(whole, tmp_path), {}, folds=5, block=32)
    assert narrow.guard in (3, 6)
    assert (narrow.parts == TRAIN).sum() > 0.25 * whole.size
    assert split.deal(of(whole, tmp_path), {}, folds=5, block=4).guard == split.LEAST
    assert split.deal(of(whole, tmp_path), {}, folds=5, block=32, guard=9).guard == 9


def test_a_narrow_guard_is_told(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s")
    given = [f"data.labels={scene / 'labels.tif'}", f"data.s2={scene / 'S2'}"]
    for guard, used in (("null", 3), ("1", 1)):
        site = Site(settings(*given, f"data.guard={guard}"), ("s2",))
        site.close()
        assert site.facts["guard"] == used
        assert any(f"lie {used} pixels" in note and "data.guard=48" in note for note in site.notes)


def test_too_little_to_split_is_told_by_name(tmp_path: Path) -> None:
    one = labelling.read(write_geojson(tmp_path / "l.geojson", [box(0, 0, 9, 9)], ["wheat"]), LATTICE, EXTENT)
    with pytest.raises(InputError, match="only class where there are images is wheat"):
        split.deal(one, one.names, folds=3, block=8)
    shapes = [box(0, 0, 9, 9), box(20, 20, 9, 9)]
    few = labelling.read(write_geojson(tmp_path / "f.geojson", shapes, ["wheat", "maize"]), LATTICE, EXTENT)
    with pytest.raises(InputError, match=r"data\.folds=3: there are 2 groups of polygons"):
        split.deal(few, few.names, folds=3, block=8)


def test_embeddings_are_held_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are filled into what is returned; nothing is put together at the end."""
    places = Pastis(settings(f"data.pastis={write_pastis(tmp_path / 'p')}", "data.sensors=[s2]"), ("s2",))
    wanted: dict[str, list[samples.Pixels]] = {"train": [], "val": []}

    def fake(halo: int, encoder: Any, normalise: Any, views: Any, target: Any) -> samples.Pixels:
        known = target[target >= 0]
        # A pixel that was not observed has no embedding.
        count = len(known) - 1
        made = samples.Pixels(torch.rand(count, 640), torch.from_numpy(known[:count].astype(np.int64)))
        of = made.target // len(places.legend.labels)
        for number, split_name in enumerate(wanted):
            part = of == number
            wanted[split_name].append(samples.Pixels(made.features[part], made.target[part] % 3))
        return made

    monkeypatch.setattr(samples, "embedded", fake)
    monkeypatch.setattr(torch, "cat", None)
    found = samples.embed_splits(places, None, {}, ("train", "val"), most=10**6)  # type: ignore[arg-type]
    monkeypatch.undo()
    for name, parts in wanted.items():
        assert torch.equal(found[name].features, torch.cat([part.features for part in parts]))
        assert torch.equal(found[name].target, torch.cat([part.target for part in parts]))


@pytest.mark.parametrize("kind", ["raster", "polygons"])
def test_memory_is_some_bytes_a_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(labelling, "STRIP", 1 << 15)
    side = 1500
    extent = LATTICE.window(LEFT, TOP - 10 * side, LEFT + 10 * side, TOP)
    path = tmp_path / "l.tif"
    if kind == "raster":
        write(path, np.random.default_rng(0).integers(1, 9, (1, side, side)).astype(np.uint8), names=None)
    else:
        shapes = [box(100 * r, 100 * c, 100, 100) for r in range(15) for c in range(15)]
        path = write_geojson(tmp_path / "l.geojson", shapes, [1 + n % 4 for n in range(225)])
    tracemalloc.start()
    try:
        split.deal(labelling.read(path, LATTICE, extent), {}, folds=5, block=32, guard=6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Places 2 bytes, parts 1, pieces of polygons 4; and what strips take.
    assert peak < (5 if kind == "raster" else 9) * side * side
