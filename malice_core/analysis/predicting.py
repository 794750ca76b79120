"""Predicts every pixel of an embedding, cell by cell, and writes the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core.analysis import learning, memories, windows
from malice_core.analysis.command import Progress, Run
from malice_core.analysis.embedding import Embedding, Pixels
from malice_core.analysis.legend import NODATA
from malice_core.analysis.likeness import Likeness
from malice_core.analysis.result import Outputs
from malice_core.analysis.saved import Trained
from malice_core.classifier import one_line
from malice_core.grid import Window
from malice_core.product import Raster

Part = tuple[NDArray[Any], NDArray[np.float32]]


def write(
    embedding: Embedding,
    trained: Trained,
    outputs: Outputs,
    output: Path,
    probability: Path | None,
    tags: Mapping[str, str],
    run: Run,
    progress: Progress,
    compared: Likeness | None = None,
) -> None:
    """Writes classes or numbers, and the winning class' probability where it is asked for.

    Args:
        tags: of the rasters.
        progress: has a step ``predicting`` of all pixels.
        compared: is given all pixels with data.

    Raises:
        MaliceError: if the embedding cannot be read or the disk does not take the result.
    """
    known = trained.legend
    own = dict(tags) | (known.tags() if known else {"MALICE_UNITS": f"those of {trained.field}"})
    if known:
        main = Raster("", output, known.dtype, ["class"], NODATA, own, colours=known.colours)
    else:
        main = Raster("", output, "float32", [one_line(trained.field)], float("nan"), own)
    rasters = [outputs.raster(main, embedding.place, run.threads)]
    if probability is not None:
        band = Raster("", probability, "float32", ["probability"], float("nan"), own)
        rasters.append(outputs.raster(band, embedding.place, run.threads))
    classes = len(known.classes) if known else 1
    sides = windows.plan(
        [embedding],
        run.memory,
        run.threads,
        # In double precision, as given and standardised, and the shares of all classes.
        work=8 * (2 * embedding.kind.features + 3 * classes),
        kept=memories.sample_bytes(embedding, _held(trained)) + _grown(trained, classes),
    )
    advance = progress.step("predicting")
    given = windows.windows(embedding.area, sides)
    work = _Work(trained, compared)
    for window, results in windows.over([embedding], given, work, run.threads, run.check):
        cells, parts = _unzipped(results)
        for number, raster in enumerate(rasters):
            raster.write(window, zip(cells, (part[number] for part in parts), strict=True))
        advance(window.pixels)


def _held(trained: Trained) -> int:
    """Pixels that a trained model holds."""
    return len(trained.model.steps[-1][1]._fit_X) if trained.method == "knn" else 0


def _grown(trained: Trained, classes: int) -> int:
    """Bytes of the trees of a trained model."""
    trees = trained.model.steps[-1][1].estimators_ if trained.method == "forest" else ()
    return memories.forest_bytes(sum(one.tree_.node_count for one in trees), classes)


def _unzipped(results: Iterator[tuple[Window, Part]]) -> tuple[list[Window], list[Part]]:
    pairs = list(results)
    return [cell for cell, _ in pairs], [part for _, part in pairs]


class _Work:
    """From the numbers of a cell to (pixels,) values and (pixels,) probabilities."""

    def __init__(self, trained: Trained, compared: Likeness | None) -> None:
        self._trained, self._compared = trained, compared

    def __call__(self, cell: Window, pixels: Pixels) -> Part:
        known = self._trained.legend
        sure = np.full(cell.pixels, np.nan, np.float32)
        values = np.full(cell.pixels, np.nan, np.float32) if known is None else np.zeros(cell.pixels, known.dtype)
        if pixels.there.any():
            if self._compared is not None:
                self._compared.add(pixels.seen)
            seen = np.ascontiguousarray(pixels.seen.T, np.float64)
            if known is None:
                values[pixels.there] = learning.numbers(self._trained.model, seen)
            else:
                shares = learning.shares(self._trained.model, seen)
                winner = shares.argmax(axis=1)
                values[pixels.there] = known.codes[winner]
                sure[pixels.there] = shares[np.arange(len(shares)), winner]
        return values, sure
