"""What ``malice:classify`` and ``malice:regress`` share: labels, a method, and how good it is."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterNumber,
)

from .. import checks
from ..texts import tr
from . import options
from .parameters import advanced, helped
from .tool import ToolAlgorithm

METHODS = ["linear", "knn", "forest"]
#: The most that the engine takes.
FOLDS = 1000
#: What is about learning, and so means nothing to a classifier that is there.
_TRAINING = frozenset(
    (
        *("LABELS", "FIELD", "METHOD", "FOLDS", "FOLD_SIZE", "PER_PLACE", "PER_CLASS", "PIXELS", "SEED"),
        *("REPORT", "SAVE_CLASSIFIER"),
    )
)


class LearningAlgorithm(ToolAlgorithm):
    """An algorithm that learns from labels, or applies what another run learned."""

    SHAPES = (("LABELS", "FIELD"),)

    def unused(self, parameters: dict[str, Any]) -> frozenset[str]:
        return _TRAINING if parameters.get("CLASSIFIER") else frozenset()

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        super().refuse(parameters, context)
        if parameters.get("CLASSIFIER"):
            if parameters.get("LABELS"):
                raise checks.Refusal(tr("LABELS are learned from, CLASSIFIER has learned already: leave out one."))
            return
        if not parameters.get("LABELS"):
            raise checks.Refusal(tr("Nothing to learn from: give LABELS, or what SAVE_CLASSIFIER wrote as CLASSIFIER."))
        if not parameters.get("FIELD"):
            raise checks.Refusal(tr("FIELD is not set: choose the field of LABELS that is to be learned."))
        if checks.number(parameters, "FOLDS", (True, 0, FOLDS)) == "1":
            # Between the limits of the widget, and nothing would be left to train on.
            raise checks.Refusal(tr("FOLDS 1 is no test: give 0 for none, or 2 or more."))

    def prepare(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        super().prepare(parameters, context, feedback)
        if parameters.get("CLASSIFIER") and checks.target(parameters, "REPORT") not in ("", "TEMPORARY_OUTPUT"):
            feedback.pushWarning(tr("No REPORT is written: it is about training, and CLASSIFIER was trained already."))

    def learned(
        self, labels: str, field: QgsProcessingParameterDefinition, most: QgsProcessingParameterDefinition, other: str
    ) -> list[QgsProcessingParameterDefinition]:
        """The parameters of what is learned.

        Args:
            labels: help of the labels.
            most: how many pixels are learned from.
            other: label of what another run learned.
        """
        return [
            options.embedding(),
            options.shapes("LABELS", tr("Labels (points or polygons)"), labels, optional=True),
            field,
            options.choice(
                "METHOD",
                tr("Method"),
                METHODS,
                tr(
                    "linear: a linear model, quick and good with few labels. knn: the nearest labelled pixels decide. "
                    "forest: a random forest, slower to apply."
                ),
            ),
            options.file(
                "CLASSIFIER",
                other,
                "skops",
                tr("In place of labels: a file that SAVE_CLASSIFIER wrote, of an embedding of the same model."),
            ),
            advanced(
                options.whole(
                    "FOLDS",
                    tr("Folds of cross-validation"),
                    tr(
                        "So many times it is trained without a share of the blocks and tested on it: 2 or more. "
                        "0: no test."
                    ),
                    5,
                    0,
                    FOLDS,
                )
            ),
            advanced(_fold_size()),
            advanced(
                options.whole(
                    "PER_PLACE",
                    tr("Pixels of a polygon at most"),
                    tr("Of a larger polygon some are drawn by chance, so that it outweighs no others. By default 50."),
                    None,
                )
            ),
            advanced(most),
            options.seed(),
            *options.computing(),
        ]

    def written(self, report: str, label: str, files: str) -> list[QgsProcessingParameterDefinition]:
        """The parameters of what is written besides rasters.

        Args:
            report: help of it.
            label, files: of what was learned, such as ``Classifier`` and ``Classifiers (*.skops)``.
        """
        return [
            options.saved("REPORT", tr("Report"), tr("HTML files (*.html)"), report, default=True),
            options.saved(
                "SAVE_CLASSIFIER",
                label,
                files,
                tr("A file (.skops) for CLASSIFIER in later runs: on other areas of the same year, with like dates."),
            ),
        ]


def _fold_size() -> QgsProcessingParameterDefinition:
    text = tr(
        "Side in metres of the square blocks that are tested together. Neighbouring pixels are alike, so that testing "
        "beside what was trained on flatters; take more than the size of a field. By default the engine chooses."
    )
    kind = QgsProcessingParameterNumber.Type.Double
    return helped(
        QgsProcessingParameterNumber("FOLD_SIZE", tr("Side of the blocks (metres)"), kind, None, True, 1, 1e6), text
    )
