"""``malice:change``: where two years differ, and where more than by chance."""

from __future__ import annotations

import math
from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingParameterDefinition, QgsProcessingParameterString

from .. import checks, styling
from ..texts import tr
from . import options
from .parameters import helped
from .tool import ToolAlgorithm

#: The engine's order: significance is that of normal differences, which euclidean distances keep to.
MEASURES = ["euclidean", "cosine"]


class ChangeAlgorithm(ToolAlgorithm):
    """Parameters and texts."""

    ID = "change"
    HELP = "docs/qgis_tools.md#detect-change"
    MODULE = "malice_core.change"
    TAGS = "change detection,difference,otsu,deforestation,embedding,features,malice"

    def displayName(self) -> str:
        return tr("Detect change")

    def shortDescription(self) -> str:
        return tr("Where a place lived through two years differently.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Compares two embeddings of one place, such as two years, pixel by pixel. They must be of the same "
            "model, sensors and queries, on the same grid, and should be of like dates.</p>"
            "<p><b>Result:</b> three bands: the <i>distance</i>; its <i>significance</i>, 0 to 1; and "
            "<i>changed</i>, 1 where the distance is beyond the threshold. The layer's menu has a style for each "
            "(Styles).</p>"
        )

    def definitions(self) -> list[QgsProcessingParameterDefinition]:
        return [
            options.embedding("BEFORE", tr("Embedding before")),
            options.embedding("AFTER", tr("Embedding after")),
            options.choice(
                "MEASURE",
                tr("Measure"),
                MEASURES,
                tr(
                    "euclidean: in the space of the embedding; its significance can be believed. cosine: of "
                    "directions, 0 to 2, which overrates it: for the order of pixels only."
                ),
            ),
            helped(
                QgsProcessingParameterString("THRESHOLD", tr("Threshold (otsu or a distance)"), "otsu"),
                tr("otsu: chosen so that changed and unchanged pixels fall apart best. Or a distance, a number."),
            ),
            *options.computing(),
            options.raster(
                "OUTPUT", tr("Change"), tr("GeoTIFF, float32, bands distance, significance (0 to 1), changed.")
            ),
        ]

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        super().refuse(parameters, context)
        threshold = str(parameters.get("THRESHOLD") or "otsu").strip()
        if threshold != "otsu" and not _is_distance(threshold):
            text = tr("THRESHOLD '{}' is neither otsu nor a distance of 0 or more.")
            raise checks.Refusal(text.format(threshold[:80]))

    def look(self, output: str, path: str, parameters: dict[str, Any]) -> styling.Look:
        return styling.change(path, tr("Change between two embeddings.")).named(tr("Change"))


def _is_distance(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False
