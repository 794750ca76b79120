"""``malice:regress``: a map of a number, such as tree cover, from measured points or polygons, and how good it is."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterDefinition

from .. import styling
from ..texts import tr
from . import options
from .learning import LearningAlgorithm


class RegressAlgorithm(LearningAlgorithm):
    """Parameters and texts."""

    ID = "regress"
    HELP = "docs/qgis_tools.md#regress"
    MODULE = "malice_core.regress"
    TAGS = "regression,supervised,tree cover,biomass,yield,random forest,knn,ridge,labels,embedding,malice"

    def displayName(self) -> str:
        return tr("Regress")

    def shortDescription(self) -> str:
        return tr("A map of a measured number, such as tree cover, from an embedding and some measured places.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Learns a <b>number</b> (tree cover, biomass, yield) from points or polygons where it was measured, "
            "over an embedding, and maps it everywhere. The result is in the unit of the field.</p>"
            "<p><b>How good?</b> The report compares what was measured with what was predicted, from cross-validation "
            "over spatial blocks: what is tested lies apart from what was trained on.</p>"
            "<p><b>Other areas</b> of the same year, with like dates: save what was learned (SAVE_CLASSIFIER) and give "
            "it as CLASSIFIER in place of labels. The embeddings must be of the same model, sensors and queries.</p>"
            "<p><b>Other years:</b> learn anew from places that were measured then. Embeddings of the same place "
            "differ between years, and what was learned in one is wrong in another.</p>"
        )

    def definitions(self) -> list[QgsProcessingParameterDefinition]:
        labels = tr(
            "Places where it was measured, in any CRS, also a layer in memory. Selected features only, if told."
        )
        report = tr("A web page with the errors, measured against predicted, and how they were found.")
        field = options.field(
            "LABELS", tr("Number"), tr("The numeric field of the labels that is learned."), numeric=True
        )
        most = options.whole(
            "PIXELS",
            tr("Labelled pixels at most"),
            tr("So many labelled pixels are learned from, drawn by chance. By default 10000."),
            None,
        )
        return [
            *self.learned(labels, field, most, tr("Trained model of another run")),
            options.raster("OUTPUT", tr("Prediction"), tr("GeoTIFF, float32, in the unit of the field.")),
            *self.written(report, tr("Trained model"), tr("Trained models (*.skops)")),
        ]

    def look(self, output: str, path: str, parameters: dict[str, Any]) -> styling.Look:
        return styling.numbers(path, tr("A number learned from embeddings."))
