"""Which patches are for training, which for validation and test: decided by where they lie, and by nothing else.

The ground is cut into square cells of ``cell`` x ``cell`` patches, counted from the origin of the CRS, and the cell
that holds a patch's centre gives its split. A patch therefore keeps its split whatever is appended later, and the
same ground in another year has the same split.

Cells take their splits from an additive low-discrepancy sequence of their row and column (M. Roberts' R2), not from a
hash: of any few neighbouring cells about the wanted share is validation, so small areas are split well too. Its phase
is chosen once, with the first stack of a dataset, as the one that comes closest to the wanted shares there.

No two patches of different splits share a pixel: a patch that overlaps one of another split (in the dataset already,
or in another CRS) is left out; with ``guard`` also one that is nearer than so many metres.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from rasterio.warp import transform_bounds

from malice_core.errors import InputError
from malice_core.grid import Lattice, Window

SPLITS = ("train", "val", "test")
#: The plastic number: 1/g and 1/g^2 are the steps of the R2 sequence along rows and columns.
PLASTIC = 1.32471795724474602596
#: Phases tried, and cells wanted at least where the first stack is large enough.
PHASES, CELLS = 256, 20
#: Largest cell chosen without --cell, in patches a side: 10 km with patches of 128 pixels.
LARGEST_CELL = 8

#: (left, bottom, right, top) in metres of a CRS.
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Rule:
    """How a dataset is split; stored with it.

    Attributes:
        shares: of train, val and test; they add up to 1.
        seed: of the phase.
        cell: side of a cell in patches.
        patch: side of a patch in pixels.
        guard: metres between patches of different splits; 0: they may touch.
        phase: start of the sequence, 0 to 1.
    """

    shares: tuple[float, float, float]
    seed: int
    cell: int
    patch: int
    guard: float = 0.0
    phase: float = 0.0

    def split(self, crs: str, window: Window) -> str:
        """The split of the cell that holds the centre of a patch, in global pixels of a lattice in ``crs``."""
        side = self.cell * self.patch
        row, col = (window.row + window.height // 2) // side, (window.col + window.width // 2) // side
        zone = int(hashlib.sha256(crs.encode()).hexdigest()[:8], 16) / 2**32
        value = (self.phase + zone + row / PLASTIC + col / PLASTIC**2) % 1.0
        train, val, _ = self.shares
        return "train" if value < train else "val" if value < train + val else "test"

    def describe(self) -> dict[str, Any]:
        """As stored; ``Rule.stored`` reads it."""
        return asdict(self)

    @classmethod
    def stored(cls, content: dict[str, Any]) -> Rule:
        """From ``describe``."""
        return cls(**{**content, "shares": tuple(content["shares"])})


def parse_shares(text: str) -> tuple[float, float, float]:
    """``0.8/0.1/0.1``: the shares of train, val and test.

    Raises:
        InputError: if these are not three numbers that add up to 1.
    """
    try:
        train, val, test = (float(part) for part in text.split("/"))
    except ValueError as error:
        raise InputError(f"--split {text}: give TRAIN/VAL/TEST, for example 0.8/0.1/0.1") from error
    if not min(train, val, test) >= 0 or abs(train + val + test - 1) > 1e-6:
        raise InputError(f"--split {text}: the shares must not be negative, and add up to 1")
    return train, val, test


def settle(rule: Rule, crs: str, windows: Sequence[Window], cell: int | None) -> Rule:
    """The rule of a new dataset whose first stack has these patches.

    Args:
        rule: with shares, seed and patch.
        cell: of ``--cell``; None: so that there are about ``CELLS`` cells, at most ``LARGEST_CELL`` patches a side.
    """
    side = cell or min(LARGEST_CELL, max(1, int((len(windows) / CELLS) ** 0.5)))
    # Evenly spaced: drawn ones could all miss the few phases that give each split a patch of a small stack.
    phases = (np.random.default_rng(rule.seed).random() + np.arange(PHASES) / PHASES) % 1.0
    candidates = [replace(rule, cell=side, phase=float(phase)) for phase in phases]

    def error(candidate: Rule) -> float:
        splits = [candidate.split(crs, window) for window in windows]
        found = [splits.count(name) / len(splits) for name in SPLITS]
        # An empty split is worse than shares that are far off.
        return sum(
            abs(have - want) + 10 * (have == 0 < want) for have, want in zip(found, candidate.shares, strict=True)
        )

    return min(candidates, key=error)


@dataclass
class Footprints:
    """Bounds of patches by CRS and split, to find those that new ones would come too near to."""

    guard: float
    _boxes: dict[str, dict[str, list[Bounds]]] = field(default_factory=dict)

    def add(self, crs: str, split: str, bounds: Iterable[Bounds]) -> None:
        """Adds patches."""
        self._boxes.setdefault(crs, {}).setdefault(split, []).extend(bounds)

    def clashes(self, crs: str, split: str, bounds: Bounds) -> bool:
        """True if a patch with these bounds shares ground with one of another split, or is within the guard of it."""
        for other, by_split in self._boxes.items():
            # Bounds of a transformed rectangle hold all of it: rather too large than too small.
            box = bounds if other == crs else transform_bounds(crs, other, *bounds, densify_pts=21)
            # A thousandth of a metre: neighbours touch, and rounding must not make them overlap.
            margin = self.guard - 1e-3
            left, bottom, right, top = box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin
            for name, boxes in by_split.items():
                if name == split:
                    continue
                have = np.asarray(boxes)
                if np.any((have[:, 0] < right) & (have[:, 2] > left) & (have[:, 1] < top) & (have[:, 3] > bottom)):
                    return True
        return False


def tiles(area: Window, patch: int) -> list[Window]:
    """Patches side by side, row by row, in the middle of ``area``: what is left over at its edges is not used.

    Raises:
        InputError: if the area is smaller than a patch.
    """
    rows, cols = area.height // patch, area.width // patch
    if not rows or not cols:
        side = min(area.shape) // 8 * 8
        cure = f"give --patch {side} or smaller" if side >= 16 else "give a larger area"
        raise InputError(f"the area has {area.width} x {area.height} pixels, less than --patch {patch}: {cure}")
    top, left = area.row + (area.height - rows * patch) // 2, area.col + (area.width - cols * patch) // 2
    return [Window(top + r * patch, left + c * patch, patch, patch) for r in range(rows) for c in range(cols)]


def assign(rule: Rule, lattice: Lattice, windows: Sequence[Window], others: Footprints) -> dict[Window, str]:
    """The split of every patch that has a place in the dataset, in the order of ``windows``.

    Validation and test are small, so they are placed first and it is training that gives way to the guard.

    Args:
        others: patches of the dataset so far; the new ones are added.
    """
    found: dict[Window, str] = {}
    wanted = {window: rule.split(lattice.crs, window) for window in windows}
    for split in ("val", "test", "train"):
        mine = [window for window in windows if wanted[window] == split]
        kept = [window for window in mine if not others.clashes(lattice.crs, split, lattice.bounds(window))]
        if kept:
            others.add(lattice.crs, split, [lattice.bounds(window) for window in kept])
        found |= dict.fromkeys(kept, split)
    return {window: found[window] for window in windows if window in found}
