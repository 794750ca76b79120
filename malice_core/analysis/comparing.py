"""``malice_core.change``: compares two embeddings pixel by pixel, and says where they differ by more than chance."""

from __future__ import annotations

import argparse
import math

import numpy as np
from numpy.typing import NDArray

from malice_core.analysis import changes, command
from malice_core.analysis.changes import Unchanged
from malice_core.analysis.command import Progress, Run
from malice_core.analysis.embedding import Embedding, Floats, Pixels
from malice_core.analysis.result import ResultRaster, require_suffix
from malice_core.analysis.windows import STRIP
from malice_core.errors import InputError
from malice_core.grid import Window
from malice_core.job import SUFFIXES
from malice_core.product import Raster

BANDS = ("distance", "significance", "changed")


def run(options: argparse.Namespace, run: Run) -> None:
    """Writes the change that a command line asks for."""
    require_suffix("--output", options.output, SUFFIXES["gtiff"])
    before, after = Embedding.open(options.before), Embedding.open(options.after)
    if before.path.resolve() == after.path.resolve():
        raise InputError(f"--before and --after are both {before.path}: give embeddings of two times")
    before.kind.require(after.kind, f"{before.path}", f"{after.path}")
    before.require_grid(after)
    told = command.tags("change", before, {"measure": options.measure, "threshold": options.threshold})
    told |= after.provenance("_AFTER")
    with run.outputs({"--output": options.output}, [*before.files, *after.files], options.overwrite) as outputs:
        progress = run.progress({"comparing": before.area.pixels, "writing": before.area.pixels})
        raster = outputs.raster(
            Raster("", options.output, "float32", list(BANDS), math.nan, told), before.place, run.threads
        )
        # The threshold is known when all distances are: until then they wait in a file.
        distance = outputs.array("distance", before.place.shape)
        counts = _compared(before, after, options.measure, distance, run, progress)
        threshold = _chosen(options.threshold, counts, run)
        unchanged = Unchanged.of(counts, options.measure)
        if unchanged is None and counts.any():
            run.reporter.warning("a quarter of the distances or more are alike: there is no significance")
        changed = _written(distance, threshold, unchanged, raster, run, progress)
        raster.tag(
            {
                "MALICE_THRESHOLD": repr(threshold),
                "MALICE_CHANGED": f"{changed} of {counts.sum()} pixels",
                "MALICE_UNCHANGED": "" if unchanged is None else unchanged.text,
            }
        )
        progress.finish()


def _compared(
    before: Embedding, after: Embedding, measure: str, distance: Floats, run: Run, progress: Progress
) -> NDArray[np.int64]:
    """Fills in the distances of all pixels, NaN where one of the two has no data; their histogram."""

    def work(cell: Window, one: Pixels, other: Pixels) -> tuple[Floats, NDArray[np.int64]]:
        there = one.there & other.there
        found = np.full(cell.pixels, np.nan, np.float32)
        found[there] = changes.distances(one.at(there), other.at(there), measure)
        return found, changes.histogram(found[there])

    counts = changes.histogram(np.zeros(0, np.float32))
    kept = 8 * changes.BINS * (run.threads + 3)
    size = 32 * before.kind.features
    for _, results in run.over([before, after], work, progress.step("comparing"), size, kept):
        for cell, (found, number) in results:
            counts += number
            rows, cols = cell.slices_in(before.area)
            distance[rows, cols] = found.reshape(cell.shape)
    return counts


def _chosen(threshold: str | float, counts: NDArray[np.int64], run: Run) -> float:
    """The threshold, which nothing is above where there is nothing to split."""
    if not counts.any():
        run.reporter.warning("no pixel has data in both embeddings")
    if not isinstance(threshold, str):
        return threshold
    found = changes.otsu(counts)
    if found is None and counts.any():
        run.reporter.warning("all distances are alike: there is no threshold by Otsu, and no pixel is called changed")
    return math.inf if found is None else found


def _written(
    distance: Floats, threshold: float, unchanged: Unchanged | None, raster: ResultRaster, run: Run, progress: Progress
) -> int:
    """Writes the three bands; the number of pixels that changed."""
    advance, total = progress.step("writing"), 0
    height, width = distance.shape
    for row in range(0, height, STRIP):
        run.check()
        window = Window(row, 0, min(STRIP, height - row), width)
        found = np.array(distance[row : window.end_row])
        bands = np.full((len(BANDS), *found.shape), np.nan, np.float32)
        there = np.isfinite(found)
        bands[0], bands[2, there] = found, found[there] > threshold
        if unchanged is not None:
            bands[1, there] = unchanged.significance(found[there])
        total += int((bands[2] == 1).sum())
        raster.write(window, [(window, bands)])
        advance(window.pixels)
    return total
