"""``malice:cluster``: pixels with like years, without labels."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProcessingParameterDefinition

from .. import styling
from ..texts import tr
from . import options
from .pca import one_fit
from .tool import ToolAlgorithm


class ClusterAlgorithm(ToolAlgorithm):
    """Parameters and texts."""

    ID = "cluster"
    HELP = "docs/qgis_tools.md#cluster"
    MODULE = "malice_core.cluster"
    TAGS = "cluster,k-means,unsupervised,classification,segmentation,embedding,features,malice"

    def displayName(self) -> str:
        return tr("Cluster")

    def shortDescription(self) -> str:
        return tr("Groups pixels with like years, without any labels.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Groups the pixels of an embedding into <b>clusters</b> of like years (mini-batch k-means). No labels "
            "are needed; what each cluster is you find out by looking.</p>"
            "<p>Clusters are numbered by size, the largest is 1. Save the fit (SAVE_FIT) to find the same clusters in "
            "other areas of the same year, with like dates (FIT; of the same model). Of another year find clusters "
            "anew: embeddings of the same places differ between years.</p>"
        )

    def definitions(self) -> list[QgsProcessingParameterDefinition]:
        fits = tr("Fits (*.json)")
        return [
            options.embedding(),
            options.whole(
                "CLUSTERS",
                tr("Number of clusters"),
                tr("Not used with FIT, which has its own number."),
                10,
                2,
                1000,
            ),
            options.file(
                "FIT",
                tr("Fit of another run"),
                "json",
                tr("A fit that SAVE_FIT wrote, of an embedding of the same model: the same clusters are found."),
            ),
            options.sample(tr("By default 20000.")),
            options.seed(),
            *options.computing(),
            options.raster("OUTPUT", tr("Clusters"), tr("GeoTIFF of whole numbers from 1; 0 is nodata.")),
            options.saved("SAVE_FIT", tr("Fit"), fits, tr("A file (.json) for FIT in later runs.")),
        ]

    def unused(self, parameters: dict[str, Any]) -> frozenset[str]:
        return frozenset(("CLUSTERS", "SAMPLE", "SEED") if parameters.get("FIT") else ())

    def refuse(self, parameters: dict[str, Any], context: Any) -> None:
        super().refuse(parameters, context)
        one_fit(parameters)

    def look(self, output: str, path: str, parameters: dict[str, Any]) -> styling.Look:
        return styling.classes(path, tr("Clusters of embeddings.")).named(tr("Clusters"))
