"""Several sets of features of one place, scored on the same pixels and folds, and their paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from malice_core.errors import InputError
from malice_core.evaluation import rasters
from malice_core.evaluation.folds import BLOCK, GUARD, MIN_PIXELS, Folds, Labels, spatial_folds
from malice_core.evaluation.probes import PROBES, Scores, joined, paired_difference, score

#: Deals of blocks to folds.
REPEATS = 5
#: (F, H, W), NaN where there is no data; or rasters whose bands are features.
Features = npt.NDArray[np.floating] | Sequence[Path]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of several sets of features, in the order given.

    Attributes:
        deals: what they were scored on: the same pixels, dealt out to folds several times.
        scores: by name of the set, over the folds of all deals.
    """

    deals: tuple[Folds, ...]
    scores: Mapping[str, Scores]

    def difference(self, probe: str, one: str, other: str) -> tuple[float, float]:
        """Mean macro F1 of ``one`` minus that of ``other``, and half of its 95 % interval over folds.

        Args:
            probe: ``linear`` or ``neighbours``.
            one, other: names of sets.
        """
        ratio = float(np.mean([deal.ratio for deal in self.deals]))
        return paired_difference(getattr(self.scores[one], probe), getattr(self.scores[other], probe), ratio)

    def pixels(self) -> dict[int, int]:
        """Labelled pixels by class."""
        classes = self.deals[0].labels[self.deals[0].counted]
        return {one: int((classes == one).sum()) for one in self.deals[0].classes}

    def to_json(self) -> dict[str, Any]:
        """Plain containers: folds, scores by set, and differences of the first set to every other."""
        first, *others = self.scores
        return {
            "classes": {str(one): count for one, count in self.pixels().items()},
            "folds": self.deals[0].count,
            "repeats": len(self.deals),
            "guard": self.deals[0].guard,
            "sets": {
                name: {
                    "features": one.width,
                    **{probe: _plain(getattr(one, probe)) for probe in PROBES},
                }
                for name, one in self.scores.items()
            },
            "differences": [
                {"probe": probe, "of": first, "to": other, "mean": mean, "half_of_95": half}
                for other in others
                for probe in PROBES
                for mean, half in [self.difference(probe, first, other)]
            ],
        }


def _plain(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {"mean": float(values.mean()), "folds": values.tolist()}


def compare(
    sets: Mapping[str, Features],
    labels: Labels | Path,
    *,
    band: int = 1,
    folds: int = 5,
    block: int = BLOCK,
    guard: int = GUARD,
    min_pixels: int = MIN_PIXELS,
    seed: int = 0,
    repeats: int = REPEATS,
) -> Comparison:
    """Scores sets of features on the pixels where all of them have data.

    Args:
        sets: by name; arrays all of one shape, or rasters all on one grid.
        labels: (H, W) classes, 0 for none; or a raster of them on the same pixels.
        band: of the labels' raster.
        folds, block, guard, min_pixels, seed: see :func:`malice_core.evaluation.folds.spatial_folds`.
        repeats: deals of blocks to folds, with seeds from ``seed`` on: a class of few pixels makes the score of one
            fold a matter of luck.

    Raises:
        InputError: if rasters cannot be read or do not fit, too little is labelled, or scikit-learn is missing.
    """
    place = None
    for given in sets.values():
        if not isinstance(given, np.ndarray) and place is None:
            place = rasters.place_of(given[0])
    if isinstance(labels, Path):
        shapes = [given.shape[1:] for given in sets.values() if isinstance(given, np.ndarray)]
        # Arrays carry no coordinates: labels are then taken as they lie.
        place = place or rasters.place_of(labels)
        if any(shape != place.shape for shape in shapes):
            raise InputError(f"features of {shapes[0]} pixels, the raster has {place.shape}")
        labels = rasters.labels(labels, band, place)
    known = labels != 0
    rows, cols = np.nonzero(known)
    table = {name: _taken(given, place, rows, cols, labels.shape) for name, given in sets.items()}
    seen = np.all([np.isfinite(values).all(axis=1) for values in table.values()], axis=0)
    if not seen.any():
        raise InputError("no labelled pixel has data in every set of features: do they cover the labels?")
    settled = np.zeros(labels.shape, np.int64)
    settled[rows[seen], cols[seen]] = labels[rows[seen], cols[seen]]
    deals = tuple(
        spatial_folds(settled, folds, block=block, guard=guard, min_pixels=min_pixels, seed=seed + number)
        for number in range(repeats)
    )
    counted = deals[0].counted[rows, cols]
    return Comparison(
        deals, {name: joined([score(values[counted], deal, seed) for deal in deals]) for name, values in table.items()}
    )


def _taken(
    given: Features, place: rasters.Place | None, rows: rasters.Indices, cols: rasters.Indices, shape: tuple[int, ...]
) -> npt.NDArray[np.floating]:
    """(N, F) of one set at some pixels."""
    if isinstance(given, np.ndarray):
        if given.shape[1:] != shape:
            raise InputError(f"features of {given.shape[1:]} pixels, labels of {shape}")
        return given[:, rows, cols].T
    assert place is not None, "found above"
    return rasters.features(given, place, rows, cols)
