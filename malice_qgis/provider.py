"""The Processing provider ``malice``. It is always there; algorithms say themselves when there is no engine."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon
from qgis.utils import pluginMetadata

from .algorithms.change import ChangeAlgorithm
from .algorithms.classify import ClassifyAlgorithm
from .algorithms.cluster import ClusterAlgorithm
from .algorithms.embed import EmbedAlgorithm
from .algorithms.inspect import InspectAlgorithm
from .algorithms.models import ModelsAlgorithm
from .algorithms.pca import PcaAlgorithm
from .algorithms.regress import RegressAlgorithm
from .algorithms.sample import SampleAlgorithm
from .algorithms.setup import SetupAlgorithm
from .algorithms.similarity import SimilarityAlgorithm
from .pictures import icon_path
from .texts import tr

ALGORITHMS = (
    SetupAlgorithm,
    InspectAlgorithm,
    EmbedAlgorithm,
    PcaAlgorithm,
    SimilarityAlgorithm,
    ClusterAlgorithm,
    ClassifyAlgorithm,
    RegressAlgorithm,
    ChangeAlgorithm,
    SampleAlgorithm,
    ModelsAlgorithm,
)


class MaliceProvider(QgsProcessingProvider):
    """Algorithms over the MALICE engine."""

    def id(self) -> str:
        return "malice"

    def name(self) -> str:
        return "MALICE"

    def longName(self) -> str:
        return tr("MALICE: embeddings of satellite image time series")

    def versionInfo(self) -> str:
        version = pluginMetadata(__package__, "version")
        return "" if version == "__error__" else version  # not loaded as a plugin, but by a test

    def icon(self) -> QIcon:
        return QIcon(icon_path())

    def svgIconPath(self) -> str:
        return icon_path()

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        return ["tif", "tiff"]

    def defaultRasterFileExtension(self) -> str:
        return "tif"

    def loadAlgorithms(self) -> None:
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())
