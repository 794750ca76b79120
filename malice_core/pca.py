"""Principal components of an embedding: ``python -m malice_core.pca --input FILE --output FILE.tif``.

The first three as red, green and blue are the usual picture of an embedding. A fit can be saved and used on other
embeddings of the model, so that the same colour means the same in every year and place.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from malice_core import flags
from malice_core.analysis import command
from malice_core.analysis.command import Progress, Run
from malice_core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from malice_core.analysis.components import Components
    from malice_core.analysis.embedding import Embedding, Floats, Pixels
    from malice_core.analysis.result import ResultRaster
    from malice_core.grid import Window

COMPONENTS = 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.parser("pca", "The principal components of an embedding, as a raster.")
    g = p.add_argument_group("components")
    g.add_argument(
        "--components", type=flags.count, metavar="N", help=f"how many (default: {COMPONENTS}, or those of --fit)"
    )
    one = g.add_mutually_exclusive_group()
    one.add_argument("--fit", type=Path, metavar="FIT.json", help="use a saved fit: colours match those of its raster")
    one.add_argument("--save-fit", type=Path, metavar="FIT.json", help="save the fit for other years or places")
    g.add_argument("--sample", type=flags.count, metavar="N", help="fit on N pixels drawn at random (default: on all)")
    command.add_seed(p)
    return p


def run(options: argparse.Namespace, run: Run) -> None:
    """The command line's work."""
    from malice_core.analysis.components import Components
    from malice_core.analysis.embedding import Embedding
    from malice_core.analysis.result import require_suffix
    from malice_core.job import SUFFIXES
    from malice_core.product import Raster

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
        options_told = {"components": fit.count, "sample": options.sample, "fit": options.fit}
        told = command.tags("pca", embedding, options_told | ({"seed": options.seed} if options.sample else {}))
        bands = [f"PC{number}" for number in range(1, fit.count + 1)]
        raster = outputs.raster(
            Raster("", options.output, "float32", bands, math.nan, told), embedding.place, run.threads
        )
        counts = _written(embedding, fit, raster, run, progress)
        if given is None:
            fit = fit.stretched(counts)
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
    from malice_core.analysis.components import Components, Moments, moments_bytes
    from malice_core.analysis.windows import CELL

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
    embedding: Embedding, fit: Components, raster: ResultRaster, run: Run, progress: Progress
) -> NDArray[np.int64]:
    """Writes the components of all pixels; their histograms."""
    import numpy as np

    from malice_core.analysis.components import histogram_bytes

    def work(cell: Window, pixels: Pixels) -> tuple[Floats, NDArray[np.int32]]:
        found = fit.of(pixels.seen)
        content = np.full((fit.count, cell.pixels), np.nan, np.float32)
        content[:, pixels.there] = found
        return content, fit.histograms(found)

    size, kept = 8 * (embedding.kind.features + 3 * fit.count), histogram_bytes(fit.count, run.threads)
    counts = fit.histograms(np.zeros((fit.count, 0))).astype(np.int64)
    for window, results in run.over([embedding], work, progress.step("writing"), size, kept):
        parts = []
        for cell, (content, found) in results:
            counts += found
            parts.append((cell, content))
        raster.write(window, parts)
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    return command.main(arguments, parser, run)


if __name__ == "__main__":
    sys.exit(main())
