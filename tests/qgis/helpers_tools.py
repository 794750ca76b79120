"""Layers drawn over the embeddings of the tests, and runs of tools, in QGIS and from the shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from helpers_qgis import Log


def engine_run(python: str, tool: str, *arguments: object) -> None:
    """A tool from the shell."""
    command = [python, "-I", "-m", f"malice_core.{tool}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


#: What the engine's command lines take: choices and default by option, and which of some values are refused.
_OPTIONS = """
import argparse, importlib, json, sys
told = {}
for tool, tried in json.load(sys.stdin).items():
    actions = {one.dest: one for one in importlib.import_module("malice_core." + tool).parser()._actions}
    told[tool] = {}
    for name, values in tried.items():
        refused = []
        for value in values:
            try:
                actions[name].type(value)
            except (argparse.ArgumentTypeError, ValueError):
                refused.append(value)
        told[tool][name] = [list(actions[name].choices or ()), actions[name].default, refused]
print(json.dumps(told))
"""


def engine_options(python: str, tried: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[Any]]]:
    """(choices, default, values of ``tried`` that are refused) of some options, by tool and option."""
    command = [python, "-I", "-c", _OPTIONS]
    done = subprocess.run(command, input=json.dumps(tried), capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def run(provider: Any, context: QgsProcessingContext, tool: str, **parameters: Any) -> dict[str, Any]:
    log = Log()
    results, good = provider.algorithm(tool).run(parameters, context, log)
    assert good, log.texts
    return results


def says(provider: Any, context: QgsProcessingContext, tool: str, **parameters: Any) -> str:
    """The one line of a refusal, before the run and of the run itself, which models begin without the former."""
    algorithm = provider.algorithm(tool).create()
    good, before = algorithm.checkParameterValues(parameters, context)
    assert not good
    assert "\n" not in before
    return before


def spot(row: int, col: int) -> str:
    """The centre of a pixel of the embeddings."""
    return f"Point ({500000 + 10 * col + 5} {5600000 - 10 * row - 5})"


def square(row: int, col: int, side: int = 4) -> str:
    """Some whole pixels."""
    left, top = 500000 + 10 * col, 5600000 - 10 * row
    right, bottom = left + 10 * side, top - 10 * side
    return f"Polygon (({left} {top}, {right} {top}, {right} {bottom}, {left} {bottom}, {left} {top}))"


def drawn(kind: str, rows: list[tuple[str, list[Any]]], crs: str = "EPSG:32631") -> QgsVectorLayer:
    """A layer in memory with the fields ``crop`` and ``cover``; geometries are given in the embeddings' CRS."""
    layer = QgsVectorLayer(f"{kind}?crs={crs}&field=crop:string&field=cover:double", "drawn", "memory")
    turn = QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:32631"), layer.crs(), QgsProject.instance())
    for wkt, attributes in rows:
        feature, geometry = QgsFeature(layer.fields()), QgsGeometry.fromWkt(wkt)
        geometry.transform(turn)
        feature.setGeometry(geometry)
        feature.setAttributes(attributes)
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    return layer


def saved(layer: QgsVectorLayer, path: Path) -> str:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GeoJSON" if path.suffix == ".geojson" else "GPKG"
    options.layerOptions = ["COORDINATE_PRECISION=15"] if path.suffix == ".geojson" else []
    QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), QgsProject.instance().transformContext(), options)
    return str(path)


def samples() -> list[tuple[str, list[Any]]]:
    """Squares of three crops over the whole place, with a cover each."""
    rows = []
    for number, (row, col) in enumerate((row, col) for row in range(4, 36, 6) for col in range(4, 44, 6)):
        rows.append((square(row, col), [("wheat", "maize", "Wiese é")[number % 3], 10.0 * (number % 7)]))
    return rows
