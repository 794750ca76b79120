"""Clusters of an embedding, without labels: ``python -m malice_core.cluster --input FILE --output FILE.tif``.

Mini-batch k-means; a fit can be saved and used on other areas of the same year, so that clusters match.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from malice_core import flags
from malice_core.analysis import command
from malice_core.analysis.command import Run
from malice_core.errors import InputError

if TYPE_CHECKING:
    from malice_core.analysis.clustering import Clusters
    from malice_core.analysis.embedding import Embedding
    from malice_core.analysis.likeness import Likeness
    from malice_core.analysis.result import ResultRaster

#: Clusters, and pixels drawn to find them, unless other numbers are given.
CLUSTERS, SAMPLE = 10, 20_000


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.parser("cluster", "Clusters of pixels that are alike, found without labels, as a raster of classes.")
    g = p.add_argument_group("clusters")
    g.add_argument("--clusters", type=_clusters, metavar="N", help=f"how many, default {CLUSTERS}")
    g.add_argument("--sample", type=flags.count, metavar="N", help=f"pixels drawn to find them, default {SAMPLE}")
    one = g.add_mutually_exclusive_group()
    one.add_argument(
        "--fit", type=command.path, metavar="FIT.json", help="use a saved fit: clusters match those of its raster"
    )
    one.add_argument(
        "--save-fit", type=command.path, metavar="FIT.json", help="save the fit, for other areas of the year"
    )
    command.add_seed(p)
    return p


def _clusters(text: str) -> int:
    return int(flags.number(text, int, 2, 1000, "a number of clusters, 2 to 1000"))


def run(options: argparse.Namespace, run: Run) -> None:
    """The command line's work."""
    from malice_core.analysis import learning
    from malice_core.analysis.clustering import Clusters
    from malice_core.analysis.embedding import Embedding
    from malice_core.analysis.legend import NODATA
    from malice_core.analysis.result import require_suffix
    from malice_core.job import SUFFIXES
    from malice_core.product import Raster

    require_suffix("--output", options.output, SUFFIXES["gtiff"])
    if options.save_fit is not None:
        require_suffix("--save-fit", options.save_fit, (".json",))
    embedding = Embedding.open(options.input)
    fit = None
    if options.fit is not None:
        for name in ("clusters", "sample"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} is of a fit that is made, --fit gives one: leave one of them out")
        fit = Clusters.read(options.fit)
        fit.kind.require(embedding.kind, f"{options.fit}", f"{embedding.path}")
    names = {"--output": options.output, "--save-fit": options.save_fit}
    inputs = [*embedding.files, *([options.fit] if options.fit else [])]
    with learning.one_thread(), run.outputs(names, inputs, options.overwrite) as outputs:
        pixels = embedding.area.pixels
        progress = run.progress(({} if fit else {"drawing": pixels}) | {"writing": pixels})
        if fit is None:
            fit = _fitted(embedding, options, run, progress)
        told = {"clusters": len(fit.centres)} | (
            {"fit": options.fit.name} if options.fit else {"sample": options.sample or SAMPLE, "seed": options.seed}
        )
        tags = command.tags("cluster", embedding, told) | fit.legend.tags() | {"MALICE_FIT": fit.identity}
        known = fit.legend
        band = Raster("", options.output, known.dtype, ["cluster"], NODATA, tags, colours=known.colours)
        compared = _write(embedding, fit, outputs.raster(band, embedding.place, run.threads), run, progress)
        if options.fit is not None:
            for line in compared.warnings(options.fit.name, embedding.path.name, "find clusters of its own"):
                run.reporter.warning(line)
        if options.save_fit is not None:
            outputs.file(options.save_fit).write_text(fit.text(), encoding="utf-8")
        progress.finish()


def _fitted(embedding: Embedding, options: argparse.Namespace, run: Run, progress: command.Progress) -> Clusters:
    """Centres found on drawn pixels."""
    from malice_core.analysis import memories, sampling, windows
    from malice_core.analysis.clustering import Clusters

    count, wanted = options.clusters or CLUSTERS, options.sample or SAMPLE
    if wanted < count:
        raise InputError(f"--sample {wanted}: fewer pixels than --clusters {count}; give more")
    # Beside what drawing takes: the drawn pixels in double precision, and scikit-learn.
    kept = sampling.bytes_of(embedding, wanted) + memories.sample_bytes(embedding, min(wanted, embedding.area.pixels))
    sides = windows.plan([embedding], run.memory, run.threads, kept=kept)
    advance = progress.step("drawing")
    drawn = sampling.draw(embedding, wanted, options.seed, sides[0], run.threads, run.check, advance)
    source = {"file": embedding.path.name, **embedding.provenance(), "sample": wanted, "seed": options.seed}
    fit = Clusters.fitted(embedding.kind, drawn.values, count, options.seed, source, f"{embedding.path}")
    run.check()
    progress.ended("drawing")
    return fit


def _write(embedding: Embedding, fit: Clusters, raster: ResultRaster, run: Run, progress: command.Progress) -> Likeness:
    """Writes the cluster of every pixel; and how like the pixels are to those that were drawn."""
    import numpy as np

    from malice_core.analysis import memories, windows
    from malice_core.analysis.clustering import nearest
    from malice_core.analysis.embedding import Pixels
    from malice_core.analysis.likeness import Likeness
    from malice_core.grid import Window

    codes, compared = fit.legend.codes, Likeness(fit.mean, fit.deviation)

    def work(cell: Window, pixels: Pixels) -> np.ndarray[tuple[int], np.dtype[np.integer]]:
        values = np.zeros(cell.pixels, codes.dtype)
        if pixels.there.any():
            compared.add(pixels.seen)
            values[pixels.there] = codes[nearest(fit.centres, pixels.seen.T.astype(np.float64))]
        return values

    sides = windows.plan(
        [embedding],
        run.memory,
        run.threads,
        work=8 * (embedding.kind.features + 2 * len(codes)),
        kept=memories.LIBRARY_BYTES,
    )
    advance = progress.step("writing")
    given = windows.windows(embedding.area, sides)
    for window, parts in windows.over([embedding], given, work, run.threads, run.check):
        raster.write(window, parts)
        advance(window.pixels)
    return compared


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    return command.main(arguments, parser, run)


if __name__ == "__main__":
    sys.exit(main())
