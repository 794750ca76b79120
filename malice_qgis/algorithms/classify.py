"""``malice:classify``: a map of classes from labelled points or polygons, and how good it is."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterDefinition

from .. import styling
from ..texts import tr
from . import options
from .learning import LearningAlgorithm


class ClassifyAlgorithm(LearningAlgorithm):
    """Parameters and texts."""

    ID = "classify"
    HELP = "docs/qgis_tools.md#classify"
    MODULE = "malice_core.classify"
    TAGS = "classification,supervised,land cover,crops,random forest,knn,linear,labels,training,embedding,malice"

    def displayName(self) -> str:
        return tr("Classify")

    def shortDescription(self) -> str:
        return tr("A map of classes, such as crops, from an embedding and a few labelled places.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Learns <b>classes</b> (crops, land cover) from labelled points or polygons over an embedding and maps "
            "them everywhere. Some dozen labels a class are often enough.</p>"
            "<p><b>How good?</b> The report has the confusion matrix and precision, recall and F1 of each class, from "
            "cross-validation over spatial blocks: what is tested lies apart from what was trained on.</p>"
            "<p><b>Other areas</b> of the same year, with like dates: save the classifier (SAVE_CLASSIFIER) and give "
            "it as CLASSIFIER in place of labels. The embeddings must be of the same model, sensors and queries.</p>"
            "<p><b>Other years:</b> label some places of that year and learn anew. Embeddings of the same fields "
            "differ between years: in a trial, a classifier that was right at 82 % of the pixels of its own year was "
            "right at 7.5 % of the next one's.</p>"
        )

    def definitions(self) -> list[QgsProcessingParameterDefinition]:
        labels = tr("Places whose class is known, in any CRS, also a layer in memory. Selected features only, if told.")
        report = tr("A web page with confusion matrix, scores of each class and how they were found.")
        field = options.field(
            "LABELS", tr("Class"), tr("The field of the labels with the class: text or whole numbers.")
        )
        most = options.whole(
            "PER_CLASS",
            tr("Pixels of a class at most"),
            tr("So many labelled pixels of each class are learned from, drawn by chance. By default 1000."),
            None,
        )
        return [
            *self.learned(labels, field, most, tr("Classifier of another run")),
            options.raster(
                "OUTPUT", tr("Classes"), tr("GeoTIFF of whole numbers with names and colours; 0 is nodata.")
            ),
            options.raster(
                "PROBABILITY", tr("Probability"), tr("Probability of the class that won, 0 to 1."), optional=True
            ),
            *self.written(report, tr("Classifier"), tr("Classifiers (*.skops)")),
        ]

    def look(self, output: str, path: str, parameters: dict[str, Any]) -> styling.Look:
        if output == "PROBABILITY":
            look = styling.numbers(path, tr("Probability of the class that won."), (0.0, 1.0))
            return look.named(tr("Probability"))
        look = styling.classes(path, tr("Classes learned from embeddings."))
        field = parameters.get("FIELD") if "FIELD" not in self.unused(parameters) else ""
        return look.named(tr("Classes ({})").format(field) if field else tr("Classes"))
