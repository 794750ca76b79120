"""A labelled area of one's own: images as ``malice_core.embed`` takes them, labels, and a split by location."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from malice_core import selection
from malice_core.errors import InputError
from malice_core.evaluation.folds import spatial_folds
from malice_core.grid import Window
from malice_core.stack import discover
from malice_core.training.batch import View
from malice_core.training.embedding import read_view
from malice_core.training.finetuning import labels as labelling
from malice_core.training.finetuning.labels import IGNORED, NONE
from malice_core.training.finetuning.places import SPLITS, TEST, TRAIN, VAL, Classes, Places, left_out, require_split
from malice_core.training.finetuning.settings import Tuning, job_of
from malice_core.weights import HALO, STRIDE

#: Side of a tile, pixels.
TILE = 64
#: Images of all tiles are kept in memory up to this size, else read each time.
KEPT_BYTES = 4 << 30


class Site(Places):
    """One labelled area.

    Args:
        settings: of the run.
        have: sensors of the model.

    Raises:
        InputError: if images or labels cannot be used, or too little is labelled.
    """

    def __init__(self, settings: Tuning, have: Collection[str]) -> None:
        data = settings.data
        assert data.labels is not None
        self.notes = []
        self.sensors, self.halo, self.side = tuple(s for s in ("s2", "s1") if data.paths(s)), HALO, TILE
        require_sensors(self.sensors, have)
        job = job_of(data)
        catalogs = {
            sensor: discover(
                sensor, data.paths(sensor), s2_offset=data.s2_offset, orbit=data.s1_orbit if sensor == "s1" else None
            )
            for sensor in self.sensors
        }
        lattice = catalogs[self.sensors[0]].lattice()
        self.stacks = {s: selection.choose_dates(job, catalog.on(lattice), s) for s, catalog in catalogs.items()}
        extent = self.stacks[self.sensors[0]].extent
        for stack in self.stacks.values():
            extent = extent.intersect(stack.extent)
        if not extent.pixels:
            raise InputError("the images of data.s2 and data.s1 do not overlap: give images of one place")
        found = labelling.read(
            Path(data.labels),
            lattice,
            extent,
            band=data.band,
            field=data.field,
            layer=data.layer,
            ignore=settings.ignore_index,
        )
        self.window = found.window
        if data.paths("scl"):
            self.stacks["s2"] = selection.apply_clouds(job, lattice, self.stacks["s2"], self.window)
        self.stacks = {sensor: selection.thin(job, stack) for sensor, stack in self.stacks.items()}
        for sensor, stack in self.stacks.items():
            selection.warn_about_series(sensor, stack, self.notes)
        self._split(found, settings)
        whole = self.window.snap(STRIDE)
        blocks = [
            Window(row, col, TILE, TILE)
            for row in range(whole.row, whole.end_row, TILE)
            for col in range(whole.col, whole.end_col, TILE)
        ]
        self._blocks = [block for block in blocks if (self._of(block, self._classes) != IGNORED).any()]
        side = (TILE + 2 * HALO) ** 2
        size = sum(len(s.observations) * side * (4 * len(s.sensor.bands) + 2) for s in self.stacks.values())
        # A frozen encoder looks at every tile once.
        keep = settings.mode == "full" and size * len(self._blocks) <= KEPT_BYTES
        self._kept: dict[tuple[int, str], View] | None = {} if keep else None
        require_split(self, "lower data.block or data.guard, or label more")
        self.facts = self._facts(settings, found)

    def _split(self, found: labelling.Labelled, settings: Tuning) -> None:
        """Deals blocks of pixels out to folds; the last fold tests, the one before validates."""
        data = settings.data
        known = found.labels != NONE
        raw = np.unique(found.labels[known])
        # Numbers from 1: what spatial_folds takes for no label, 0, may be a class.
        ranks = np.where(known, np.searchsorted(raw, found.labels) + 1, 0)
        try:
            folds = spatial_folds(
                ranks, data.folds, block=data.block, guard=data.guard, min_pixels=0, seed=settings.seed
            )
        except InputError as error:
            raise InputError(f"{error}".replace("--folds", "data.folds or a smaller data.block")) from error
        kept, test = folds.split(data.folds - 1)
        away, val = folds.split(data.folds - 2)
        # What validates stays away from what tests, too.
        self._splits = np.full(self.window.shape, -1, np.int16)
        self._splits[kept & away] = TRAIN
        self._splits[val & kept] = VAL
        self._splits[test] = TEST
        names = {**found.names, **labelling.names_of(settings.class_names)}
        trained = np.unique(found.labels[(self._splits == TRAIN) & known])
        self.legend = labelling.legend(trained.tolist(), names)
        self.notes += left_out(raw.tolist(), self.legend, names)
        self._classes = np.where(known, self.legend.index(found.labels), IGNORED).astype(np.int16)

    def _of(self, block: Window, values: Classes) -> Classes:
        """Values of a block; -1 beyond the labels."""
        result = np.full(block.shape, -1, values.dtype)
        part = block.intersect(self.window)
        result[part.slices_in(block)] = values[part.slices_in(self.window)]
        return result

    def __len__(self) -> int:
        return len(self._blocks)

    def name(self, tile: int) -> str:
        block = self._blocks[tile]
        return f"tile at row {block.row} column {block.col}"

    def target(self, tile: int, split: str) -> Classes:
        block = self._blocks[tile]
        classes, splits = self._of(block, self._classes), self._of(block, self._splits)
        return np.where(splits == SPLITS[split], classes, IGNORED).astype(np.int16)

    def view(self, tile: int, sensor: str) -> View:
        if self._kept is not None and (tile, sensor) in self._kept:
            return self._kept[tile, sensor]
        found = read_view(self.stacks[sensor], self._blocks[tile].expand(HALO))
        if self._kept is not None:
            self._kept[tile, sensor] = found
        return found

    def crop(self, tile: int, sensor: str, rows: slice, cols: slice) -> View:
        if self._kept is None:
            block = self._blocks[tile]
            part = Window(
                block.row + rows.start, block.col + cols.start, rows.stop - rows.start, cols.stop - cols.start
            )
            return read_view(self.stacks[sensor], part)
        view = self.view(tile, sensor)
        inside = (..., *(slice(part.start + HALO, part.stop + HALO) for part in (rows, cols)))
        return replace(view, **{name: getattr(view, name)[inside] for name in ("images", "observed", "clear")})

    def close(self) -> None:
        for stack in self.stacks.values():
            stack.close()

    def _facts(self, settings: Tuning, found: labelling.Labelled) -> dict[str, Any]:
        digest = hashlib.sha256()
        for stack in self.stacks.values():
            digest.update(json.dumps([*map(_state, stack.files())]).encode())
            digest.update(json.dumps([(f"{o.date}", o.orbit) for o in stack.observations]).encode())
        digest.update(np.ascontiguousarray(found.labels).tobytes())
        digest.update(self._splits.tobytes())
        return {
            "hash": digest.hexdigest(),
            "path": settings.data.labels,
            "tiles": len(self),
            "pixels": {split: int(self.pixels(split).sum()) for split in SPLITS},
            "dates": {s: [f"{o.date}" for o in stack.observations] for s, stack in self.stacks.items()},
        }


def _state(name: str) -> list[Any]:
    """A file's name and size; the folder may be another one when the run is resumed."""
    path = Path(name)
    return [path.name, path.stat().st_size if path.is_file() else 0]


def require_sensors(wanted: Collection[str], have: Collection[str]) -> None:
    """Raises:
    InputError: if the model lacks one of the sensors.
    """
    for sensor in wanted:
        if sensor not in have:
            known = ", ".join(one.upper() for one in have)
            raise InputError(f"the model has no {sensor.upper()} encoder (it has {known}): leave these images out")
