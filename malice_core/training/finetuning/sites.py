"""A labelled area of one's own: images as ``malice_core.embed`` takes them, labels, and a split by location."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core import selection
from malice_core.errors import InputError
from malice_core.grid import Window
from malice_core.series import Series
from malice_core.stack import discover
from malice_core.training.batch import View
from malice_core.training.embedding import read_view
from malice_core.training.finetuning import labels as labelling
from malice_core.training.finetuning import split as splitting
from malice_core.training.finetuning.labels import IGNORED
from malice_core.training.finetuning.places import SPLITS, TRAIN, Classes, Places, left_out, require_split
from malice_core.training.finetuning.settings import Data, Tuning, job_of
from malice_core.weights import HALO, STRIDE

#: Side of a tile, pixels.
TILE = 64
#: Images of all tiles are kept in memory up to this size, and up to this share of the memory there is; else they are
#: read each time.
KEPT_BYTES, KEPT_SHARE = 4 << 30, 0.25
#: Where Linux says what a container or a job may use.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Options of the engine that are keys of ``data`` here, in what it says.
_OPTION = re.compile(r"--(s2-offset|s1-orbit|max-dates|max-cloud|mask-clouds|dates|scl|s2|s1)(?![-\w])( ?)")


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
        self.notes = []
        self.sensors, self.halo, self.side = tuple(s for s in ("s2", "s1") if data.paths(s)), HALO, TILE
        require_sensors(self.sensors, have)
        self._files = ExitStack()
        try:
            found = self._read(settings)
            self._split(found, settings)
            self._tiles(settings)
            self.facts = self._facts(settings, found)
        except InputError as error:
            self.close()
            raise type(error)(as_keys(f"{error}", data)) from error
        except BaseException:
            self.close()
            raise
        self.notes = list(dict.fromkeys(as_keys(note, data) for note in self.notes))

    def _read(self, settings: Tuning) -> labelling.Labelled:
        """Opens images, reads labels and settles the dates."""
        data = settings.data
        assert data.labels is not None
        job = job_of(data)
        catalogs = {}
        for sensor in self.sensors:
            catalogs[sensor] = discover(
                sensor, data.paths(sensor), s2_offset=data.s2_offset, orbit=data.s1_orbit if sensor == "s1" else None
            )
            self._files.callback(catalogs[sensor].close)
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
            self._files.callback(self.stacks["s2"].close)
        self.stacks = {sensor: selection.thin(job, stack) for sensor, stack in self.stacks.items()}
        for sensor, stack in self.stacks.items():
            selection.warn_about_series(sensor, stack, self.notes)
            self.notes += stack.warnings
        self.notes += found.notes
        self.series = {sensor: Series.of(stack, job) for sensor, stack in self.stacks.items()}
        return found

    def _split(self, found: labelling.Labelled, settings: Tuning) -> None:
        """Settles which pixels train, validate and test, and the classes."""
        data = settings.data
        names = {**found.names, **labelling.names_of(settings.class_names)}
        self.notes += labelling.unused(settings.class_names, found.values)
        dealt = splitting.deal(found, names, folds=data.folds, block=data.block, guard=data.guard, seed=settings.seed)
        self._splits, self.guard = dealt.parts, dealt.guard
        if self.guard < HALO:
            self.notes.append(
                f"between what is trained on and what tests lie {self.guard} pixels, but the network sees {HALO} "
                f"around each: scores may be a bit too good; data.guard={HALO} with a larger data.block is stricter"
            )
        values = np.array(found.values, np.int64)
        seen = np.zeros(len(values), np.bool_)
        for strip in labelling.strips(self.window.shape):
            seen[found.index[strip][self._splits[strip] == TRAIN]] = True
        self.legend = labelling.legend(values[seen].tolist(), names)
        self.notes += left_out(found.values, self.legend, names)
        self.notes += labelling.about_negative(self.legend)
        # The last one is for pixels without a label.
        lookup = np.append(self.legend.index(values), IGNORED).astype(np.int16)
        self._classes = np.empty_like(found.index)
        for strip in labelling.strips(self.window.shape):
            self._classes[strip] = lookup[found.index[strip]]

    def _tiles(self, settings: Tuning) -> None:
        """Settles where tiles lie, and whether their images are kept."""
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
        keep = settings.mode == "full" and size * len(self._blocks) <= kept_bytes()
        self._kept: dict[tuple[int, str], View] | None = {} if keep else None
        require_split(self, "lower data.block or data.guard, or label more")

    def _of(self, block: Window, values: NDArray[Any]) -> NDArray[Any]:
        """Values of a block; -1 beyond the labels."""
        result: NDArray[Any] = np.full(block.shape, -1, values.dtype)
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
        self._files.close()

    def _facts(self, settings: Tuning, found: labelling.Labelled) -> dict[str, Any]:
        digest = hashlib.sha256()
        for stack in self.stacks.values():
            digest.update(json.dumps([*map(_state, stack.files())]).encode())
            digest.update(json.dumps([(f"{o.date}", o.orbit) for o in stack.observations]).encode())
        digest.update(json.dumps(found.values).encode())
        digest.update(found.index.data)
        digest.update(self._splits.data)
        return {
            "hash": digest.hexdigest(),
            "path": settings.data.labels,
            "tiles": len(self),
            "guard": self.guard,
            "pixels": {split: int(self.pixels(split).sum()) for split in SPLITS},
            "dates": {s: [f"{o.date}" for o in stack.observations] for s, stack in self.stacks.items()},
        }


def kept_bytes() -> int:
    """Bytes of images that may be kept in memory."""
    there = [KEPT_BYTES]
    if hasattr(os, "sysconf"):  # not on Windows
        there.append(int(KEPT_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    for path in map(Path, _LIMITS):
        # "max" is no limit.
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            there.append(int(KEPT_SHARE * int(text)))
    return min(there)


def as_keys(text: str, data: Data) -> str:
    """What the engine says, with the keys of ``data`` in place of its command line's options."""

    def key(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        value = getattr(data, name)
        shown = f"{value:g}" if isinstance(value, float) else f"{value}"
        # "--dates VALUE" becomes "data.dates=VALUE".
        rest = text[found.end() :]
        return f"data.{name}{'=' if found[2] and (rest.startswith(shown) or re.match('-?[0-9]', rest)) else found[2]}"

    return _OPTION.sub(key, text)


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
