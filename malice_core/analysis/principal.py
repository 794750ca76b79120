"""``malice_core.pca``: fits principal components, or takes a fit, and writes them."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
from numpy.typing import NDArray

from malice_core.analysis import command
from malice_core.analysis.command import Progress, Run
from malice_core.analysis.components import Components, Moments, histogram_bytes, moments_bytes
from malice_core.analysis.embedding import Embedding, Floats, Pixels
from malice_core.analysis.likeness import Likeness
from malice_core.analysis.result import ResultRaster, require_suffix
from malice_core.analysis.windows import CELL
from malice_core.errors import InputError
from malice_core.grid import Window
from malice_core.job import SUFFIXES
from malice_core.pca import COMPONENTS
from malice_core.product import Raster


def run(options: argparse.Namespace, run: Run) -> None:
    """Writes the components that a command line asks for."""
    require_suffix("--output", options.output, SUFFIXES["gtiff"])
    embedding = Embedding.open(options.input)
    fit = None
    if options.fit is not None:
        if options.sample is not None:
            raise InputError("--sample is of a fit that is made, --fit gives one: leave one of them out")
        fit = Components.read(options.fit)
        fit.kind.require(embedding.kind, f"{options.fit}", f"{embedding.path}")
        if (options.components or 0) > fit.count:
            raise InputError(
                f"--components {options.components}: {options.fit} has {fit.count}: give at most as many, or fit anew"
            )
        fit = fit.first(options.components or fit.count)
    elif (options.components or 0) > embedding.kind.features:
        raise InputError(
            f"--components {options.components}: {embedding.path} has {embedding.kind.features} bands: give at most as "
            "many"
        )
    names = {"--output": options.output, "--save-fit": options.save_fit}
    inputs = [*embedding.files, *([options.fit] if options.fit else [])]
    with run.outputs(names, inputs, options.overwrite) as outputs:
        pixels = embedding.area.pixels
        progress = run.progress(({} if fit else {"fitting": pixels}) | {"writing": pixels})
        given, fit = fit, fit or _fitted(embedding, options, run, progress)
        options_told = {"components": fit.count, "sample": options.sample, "fit": options.fit and options.fit.name}
        told = command.tags("pca", embedding, options_told | ({"seed": options.seed} if options.sample else {}))
        bands = [f"PC{number}" for number in range(1, fit.count + 1)]
        raster = outputs.raster(
            Raster("", options.output, "float32", bands, math.nan, told), embedding.place, run.threads
        )
        # In the space of the components, which is what colours are.
        compared = Likeness(np.zeros(fit.count), np.sqrt(fit.variances))
        counts = _written(embedding, fit, raster, run, progress, compared)
        if given is None:
            fit = fit.stretched(counts)
        else:
            cure = "the same colour does not mean the same in both; fit anew, or embed like dates"
            for line in compared.warnings(options.fit.name, embedding.path.name, cure):
                run.reporter.warning(line)
        shares = [round(share, 6) for share in fit.ratios.tolist()]
        raster.tag(
            {
                "MALICE_STRETCH": json.dumps(fit.stretch),
                "MALICE_EXPLAINED": json.dumps(shares),
                "MALICE_FIT": fit.identity,
            }
        )
        if options.save_fit is not None:
            with outputs.text(options.save_fit) as file:
                file.write(fit.text())
        progress.finish()


def _fitted(embedding: Embedding, options: argparse.Namespace, run: Run, progress: Progress) -> Components:
    """A fit on all pixels, or on a sample."""
    features, source = embedding.kind.features, {"file": embedding.path.name, **embedding.provenance()}
    count = min(options.components or COMPONENTS, features)
    moments, kept = Moments.none(features), moments_bytes(features, run.threads)
    advance = progress.step("fitting")
    if options.sample is not None:
        drawn = run.drawn(embedding, options.sample, options.seed, advance, kept)
        source |= {"sample": f"{options.sample}", "seed": f"{options.seed}"}
        step = CELL[0] * CELL[1]
        for begin in range(0, len(drawn.values), step):
            run.check()
            moments.add(Moments.of(drawn.values[begin : begin + step].T))
    else:
        work = 8 * features
        for _, results in run.over([embedding], lambda cell, pixels: Moments.of(pixels.seen), advance, work, kept):
            for _, found in results:
                moments.add(found)
    progress.ended("fitting")
    return Components.fitted(embedding.kind, moments, count, source, f"{embedding.path}")


def _written(
    embedding: Embedding, fit: Components, raster: ResultRaster, run: Run, progress: Progress, compared: Likeness
) -> NDArray[np.int64]:
    """Writes the components of all pixels, and gives them to ``compared``; their histograms."""

    def work(cell: Window, pixels: Pixels) -> tuple[Floats, NDArray[np.int32]]:
        found = fit.of(pixels.seen)
        compared.add(found)
        content = np.full((fit.count, cell.pixels), np.nan, np.float32)
        content[:, pixels.there] = found
        return content, fit.histograms(found)

    size, kept = 8 * (embedding.kind.features + 3 * fit.count), histogram_bytes(fit.count, run.threads)
    counts = fit.histograms(np.zeros((fit.count, 0))).astype(np.int64)
    for window, results in run.over([embedding], work, progress.step("writing"), size, kept, 4 * fit.count):
        parts = []
        for cell, (content, found) in results:
            counts += found
            parts.append((cell, content))
        raster.write(window, parts)
    return counts
