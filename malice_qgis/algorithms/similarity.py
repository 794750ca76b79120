"""``malice:similarity``: how alike each pixel's year is to that of example places."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterDefinition

from .. import checks, styling
from ..texts import tr
from . import options
from .tool import ToolAlgorithm

#: The engine's order.
MEASURES = ["cosine", "euclidean"]


class SimilarityAlgorithm(ToolAlgorithm):
    """Parameters and texts."""

    ID = "similarity"
    HELP = "docs/qgis_tools.md#similarity-search"
    MODULE = "malice_core.similarity"
    SHAPES = (("REFERENCES", "FIELD"),)
    TAGS = "similarity,search,example,cosine,distance,embedding,find,features,malice"

    def displayName(self) -> str:
        return tr("Similarity search")

    def shortDescription(self) -> str:
        return tr("Finds what is like the places you point at.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Click a few points, or draw polygons, on what you look for: solar parks, a kind of meadow, a crop. The "
            "result says of every pixel how <b>similar</b> its year is to those of the examples, without any "
            "training.</p>"
            "<p><b>Several examples</b> count together: the most similar one decides. With FIELD, each value of the "
            "field has a band of its own.</p>"
            "<p><b>Measure:</b> cosine compares directions (1: the same); it is what embeddings are mostly compared "
            "with. euclidean is 1 / (1 + distance), 1 for the same too, and also hears of lengths.</p>"
        )

    def definitions(self) -> list[QgsProcessingParameterDefinition]:
        return [
            options.embedding(),
            options.shapes(
                "REFERENCES",
                tr("Examples (points or polygons)"),
                tr(
                    "Places of what is looked for, in any CRS, also a layer in memory. Selected features only, if told."
                ),
            ),
            options.field(
                "REFERENCES",
                tr("A band for each value of"),
                tr("A field of the examples; by default one band for all."),
            ),
            options.choice(
                "MEASURE",
                tr("Measure"),
                MEASURES,
                tr(
                    "cosine: of directions, -1 to 1. euclidean: 1 / (1 + distance) in the space of the embedding, 0 to "
                    "1. What is the same has 1 in both."
                ),
            ),
            *options.computing(),
            options.raster("OUTPUT", tr("Similarity"), tr("GeoTIFF, float32, a band for all or a band a value.")),
        ]

    def look(self, output: str, path: str, parameters: dict[str, Any]) -> styling.Look:
        span = (0.0, 1.0) if checks.choice(parameters, "MEASURE", MEASURES) == "cosine" else None
        return styling.numbers(path, tr("Similarity of embeddings to examples."), span).named(tr("Similarity"))
