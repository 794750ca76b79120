"""``malice_core.sample``: the embedding at points, as CSV or GeoJSON.

Numbers are written with as few digits as give the float32 back that was read. Points outside the raster, or where a
sensor has no data, have empty values.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from malice_core import vectors
from malice_core.analysis import sampling, windows
from malice_core.analysis.command import Run
from malice_core.analysis.embedding import Embedding, Floats
from malice_core.analysis.result import Outputs, require_suffix
from malice_core.errors import InputError
from malice_core.evaluation.rasters import Place
from malice_core.vectors import Layer, Point

#: Of the output; the first is a table, the others are GeoJSON.
SUFFIXES = (".csv", ".geojson", ".json")
#: Rows between two looks whether the run was cancelled.
ROWS = 256
#: RFC 7946: GeoJSON is in longitude and latitude.
LONGITUDES = "OGC:CRS84"


def run(options: argparse.Namespace, run: Run) -> None:
    """Writes the table that a command line asks for."""
    require_suffix("--output", options.output, SUFFIXES)
    embedding = Embedding.open(options.input)
    path, name = vectors.source(options.points)
    asked = vectors.Options("--points")
    layer = vectors.read(path, name, asked)
    if any(one.polygons for one in layer.features):
        raise InputError(f"--points: {path} has polygons: give points, such as their centroids")
    if all(one.empty for one in layer.features):
        raise InputError(f"--points: {path} has no points")
    bands = [options.prefix + band for band in embedding.kind.names]
    taken = {field.casefold() for field in layer.fields}
    if both := [band for band in bands if band.casefold() in taken]:
        raise InputError(
            f"--points: {path} has a field {both[0]} already, the name of a band: give --prefix, such as y2024_"
        )
    with run.outputs({"--output": options.output}, [*embedding.files, path], options.overwrite) as outputs:
        values = _values(embedding, layer.moved(embedding.place.crs, asked), outputs, run)
        with outputs.text(options.output) as file:
            if options.output.suffix.lower() == ".csv":
                _write_csv(file, layer, bands, values, run)
            else:
                _write_geojson(file, layer.moved(LONGITUDES, asked), bands, values, run)


def _values(embedding: Embedding, layer: Layer, outputs: Outputs, run: Run) -> Floats:
    """(points, features) of all points in order, NaN where there is none; on disk, as there may be many."""
    rows, cols = _pixels([point for one in layer.features for point in one.points], embedding.place)
    values = outputs.array("values", (len(rows), embedding.kind.features))
    progress = run.progress({"reading": sum(tile.pixels for tile, _ in sampling.tiles_of(embedding, rows, cols))})
    sides = windows.plan([embedding], run.memory, run.threads, kept=64 * len(rows))
    sampling.gather(embedding, rows, cols, values, sides[0], run.threads, run.check, progress.step("reading"))
    if empty := int(np.isnan(values[:, 0]).sum()):
        run.reporter.warning(f"{empty} of {len(rows)} points are outside, or have no data: their values are empty")
    progress.finish()
    return values


def _pixels(points: Sequence[Point], place: Place) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels that points lie in; -1, or the height or width, outside."""
    given = np.array(points, np.float64).reshape(-1, 2)
    rows = np.floor((given[:, 1] - place.top) / place.pixel[1]).clip(-1, place.shape[0])
    cols = np.floor((given[:, 0] - place.left) / place.pixel[0]).clip(-1, place.shape[1])
    return rows.astype(np.int64), cols.astype(np.int64)


def _rows(layer: Layer, values: Floats, run: Run) -> Iterator[tuple[Point | None, dict[str, Any], list[str]]]:
    """Place, attributes and numbers of each point, as text; a feature without a place is a row, too."""
    index, empty = 0, [""] * values.shape[1]
    for number, one in enumerate(layer.features):
        if number % ROWS == 0:
            run.check()
        for point in one.points:
            found = np.array(values[index])
            # The shortest text that is read as this float32. A pixel has all numbers, or none.
            yield point, one.attributes, empty if np.isnan(found[0]) else [str(value) for value in found]
            index += 1
        if not one.points:
            yield None, one.attributes, empty


def _write_csv(file: TextIO, layer: Layer, bands: Sequence[str], values: Floats, run: Run) -> None:
    """Attributes, x and y in the points' CRS, and numbers."""
    writer = csv.writer(file, lineterminator="\n")
    fields = layer.fields
    # An attribute keeps its name.
    axes = [axis if axis not in fields else f"{axis}_of_point" for axis in ("x", "y")]
    writer.writerow([*fields, *axes, *bands])
    for point, attributes, numbers in _rows(layer, values, run):
        place = ["", ""] if point is None else [repr(value) for value in point]
        writer.writerow([*(_cell(attributes.get(name)) for name in fields), *place, *numbers])


def _cell(value: Any) -> Any:
    """An attribute as CSV has it."""
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def _write_geojson(file: TextIO, layer: Layer, bands: Sequence[str], values: Floats, run: Run) -> None:
    """Features, one a line, in longitude and latitude."""
    file.write('{"type": "FeatureCollection", "features": [')
    names = [json.dumps(band) for band in bands]
    for number, (point, attributes, numbers) in enumerate(_rows(layer, values, run)):
        geometry = None if point is None else {"type": "Point", "coordinates": list(point)}
        properties = [f"{json.dumps(f'{key}')}: {json.dumps(_finite(value))}" for key, value in attributes.items()]
        properties += [f"{name}: {text or 'null'}" for name, text in zip(names, numbers, strict=True)]
        file.write(
            f'{"," if number else ""}\n{{"type": "Feature", "geometry": {json.dumps(geometry)}, '
            f'"properties": {{{", ".join(properties)}}}}}'
        )
    file.write("\n]}\n")


def _finite(value: Any) -> Any:
    """An attribute as JSON can have it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
