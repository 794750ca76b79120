"""``malice_core.similarity``: learns what the references are like, and compares all pixels with them."""

from __future__ import annotations

import argparse
import math

import numpy as np

from malice_core import vectors
from malice_core.analysis import command, references
from malice_core.analysis.command import Progress, Run
from malice_core.analysis.embedding import Embedding, Floats, Pixels
from malice_core.analysis.legend import listed
from malice_core.analysis.references import Means, Shape, Similarity
from malice_core.analysis.result import ResultRaster, require_suffix
from malice_core.analysis.windows import STRIP
from malice_core.errors import InputError
from malice_core.grid import Window
from malice_core.job import SUFFIXES
from malice_core.product import Raster
from malice_core.vectors import Layer, Options

#: Values of a field that get a band each.
MOST = 1000


def run(options: argparse.Namespace, run: Run) -> None:
    """Writes the similarities that a command line asks for."""
    require_suffix("--output", options.output, SUFFIXES["gtiff"])
    embedding = Embedding.open(options.input)
    path, name = vectors.source(options.references)
    asked = vectors.Options("--references")
    layer = vectors.read(path, name, asked)
    names, groups = _groups(layer, options.field, asked, run)
    shapes = references.shapes_of(layer.moved(embedding.place.crs, asked), groups, embedding.place)
    if not shapes:
        raise InputError(f"--references: {path} has no points or polygons{' with a value' if options.field else ''}")
    told = command.tags(
        "similarity", embedding, {"references": path.name, "field": options.field, "measure": options.measure}
    )
    with run.outputs({"--output": options.output}, [*embedding.files, path], options.overwrite) as outputs:
        tiles = references.touched(shapes, embedding.area.tiles(STRIP), embedding.area, STRIP)
        progress = run.progress({"references": sum(tile.pixels for tile in tiles), "comparing": embedding.area.pixels})
        means = _means(embedding, shapes, tiles, run, progress)
        good = means.counts > 0
        if not good.any():
            raise InputError(f"--references: none of {path} lies on pixels with data of {embedding.path}")
        if not good.all():
            run.reporter.warning(
                f"{(~good).sum()} of {len(good)} references are left out: outside, without data, or no pixel's centre "
                "inside"
            )
        present = np.array([one.group for one in shapes])[good]
        numbers, present = np.unique(present, return_inverse=True)
        if lost := [name for number, name in enumerate(names) if number not in numbers]:
            run.reporter.warning(f"without any reference, and without a band: {listed(lost)}")
        bands = [names[number] for number in numbers]
        vectors_of = means.sums[good] / means.counts[good, None]
        told |= {"MALICE_MEASURE": options.measure, "MALICE_REFERENCES": f"{good.sum()}"}
        raster = outputs.raster(
            Raster("", options.output, "float32", bands, math.nan, told), embedding.place, run.threads
        )
        _compare(embedding, references.Similarity(vectors_of, present, options.measure), raster, run, progress)
        progress.finish()


def _groups(layer: Layer, field: str | None, asked: Options, run: Run) -> tuple[list[str], list[int | None]]:
    """Names of the bands, and of each feature the number of its band; None where it has none."""
    if field is None:
        return ["similarity"], [0] * len(layer.features)
    values = vectors.classes(layer, vectors.chosen(layer, field, asked), asked)
    if missing := sum(value is None and not one.empty for value, one in zip(values, layer.features, strict=True)):
        run.reporter.warning(f"{missing} references have no value in {field}: they are left out")
    # All are numbers, or all are texts.
    known = sorted({value for value in values if value is not None}, key=lambda value: (f"{type(value)}", value))
    if len(known) > MOST:
        raise InputError(f"--field {field}: {layer.path} has {len(known)} values, a band each; at most {MOST} are made")
    number = {value: index for index, value in enumerate(known)}
    return [f"{value}" for value in known], [None if value is None else number[value] for value in values]


def _means(embedding: Embedding, shapes: list[Shape], tiles: list[Window], run: Run, progress: Progress) -> Means:
    """Sums over the pixels of each reference."""
    features = embedding.kind.features
    size = 2 * 8 * features * len(shapes)
    if size > run.memory // 2:
        raise InputError(
            f"--memory {run.memory / 1e9:.2f} GB is too little for {len(shapes)} references: {2 * size / 1e9:.2f} GB "
            "are needed; give more"
        )
    means = references.Means(np.zeros((len(shapes), features)), np.zeros(len(shapes), np.int64))
    work, advance = references.worker(shapes, embedding.place), progress.step("references")
    for _, results in run.over([embedding], work, advance, 16 * features, size, tiles=tiles):
        for _, found in results:
            for index, values in found:
                means.add(index, values)
    progress.ended("references")
    return means


def _compare(embedding: Embedding, similarity: Similarity, raster: ResultRaster, run: Run, progress: Progress) -> None:
    """Writes the similarities of all pixels."""

    def work(cell: Window, pixels: Pixels) -> Floats:
        content = np.full((similarity.count, cell.pixels), np.nan, np.float32)
        content[:, pixels.there] = similarity.of(pixels.seen)
        return content

    size = 8 * (3 * embedding.kind.features + 3 * references.CHUNK + 2 * similarity.count)
    advance = progress.step("comparing")
    for window, results in run.over([embedding], work, advance, size, similarity.bytes, 4 * similarity.count):
        raster.write(window, results)
