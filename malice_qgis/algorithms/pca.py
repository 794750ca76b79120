"""``malice:pca``: embeddings as a few bands, of which three make a picture; a saved fit repeats its colours."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterDefinition

from .. import checks, styling
from ..texts import tr
from . import options
from .tool import ToolAlgorithm


class PcaAlgorithm(ToolAlgorithm):
    """Parameters and texts."""

    ID = "pca"
    HELP = "docs/qgis_tools.md#principal-components-pca"
    MODULE = "malice_core.pca"
    TAGS = "pca,principal components,embedding,rgb,composite,dimension reduction,features,malice"

    def displayName(self) -> str:
        return tr("Principal components (PCA)")

    def shortDescription(self) -> str:
        return tr("A picture of an embedding: its principal components as colours, which a saved fit repeats.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Reduces the hundreds of bands of an embedding to a few <b>principal components</b>: those directions "
            "in which the pixels differ most. The first three are shown as red, green and blue, so that places with "
            "like years have like colours.</p>"
            "<p><b>The same colours elsewhere:</b> save the fit (SAVE_FIT) of one embedding and give it as FIT for "
            "others of the same model, sensors and queries. Components and stretch are then the same. The same colour "
            "means the same in other areas of the same year, with like dates. Between years embeddings of an unchanged "
            "place differ, and so do its colours: where they lie far apart the run warns. Whether a place has changed "
            "<i>Detect change</i> tells.</p>"
            "<p><b>Result:</b> float32, bands PC1, PC2, …; no unit.</p>"
        )

    def definitions(self) -> list[QgsProcessingParameterDefinition]:
        fits = tr("Fits (*.json)")
        return [
            options.embedding(),
            options.whole(
                "COMPONENTS",
                tr("Number of components"),
                tr("Bands of the result. Not used with FIT, which has its own number."),
                3,
                1,
                1280,
            ),
            options.file(
                "FIT",
                tr("Fit of another run"),
                "json",
                tr("A fit that SAVE_FIT wrote, of an embedding of the same model: nothing is fitted anew."),
            ),
            options.sample(tr("By default all.")),
            options.seed(tr("Without SAMPLE none are drawn, and it means nothing.")),
            *options.computing(),
            options.raster("OUTPUT", tr("Components"), tr("GeoTIFF, float32, bands PC1, PC2, … without unit.")),
            options.saved(
                "SAVE_FIT",
                tr("Fit"),
                fits,
                tr("A file (.json) for FIT in later runs: the same components and stretch."),
            ),
        ]

    def unused(self, parameters: dict[str, Any]) -> frozenset[str]:
        return frozenset(("COMPONENTS", "SAMPLE", "SEED") if parameters.get("FIT") else ())

    def refuse(self, parameters: dict[str, Any], context: Any) -> None:
        super().refuse(parameters, context)
        one_fit(parameters)

    def look(self, output: str, path: str, parameters: dict[str, Any]) -> styling.Look:
        return styling.components(path, tr("Principal components of embeddings.")).named(tr("PCA"))


def one_fit(parameters: dict[str, Any]) -> None:
    """Raises checks.Refusal if a fit is both read and written."""
    if parameters.get("FIT") and checks.target(parameters, "SAVE_FIT"):
        raise checks.Refusal(tr("FIT is used as it is, there is none to save: leave out FIT or SAVE_FIT."))
