"""What algorithms share whose input is a time series of images: the images, the dates and the area, for the engine."""

from __future__ import annotations

import math
import re
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsProcessingContext, QgsProcessingFeedback
from qgis.PyQt.QtWidgets import QWidget

from .. import checks, wrappers
from ..texts import tr
from . import parameters as definitions
from .base import EngineAlgorithm

#: Characters of image paths beyond which they are given in a file: Windows' limit is 32767 for everything.
LONG = 20000
#: Four numbers and a CRS; a layer may have a name in brackets too.
_WITH_CRS = re.compile(r"(?:[\s\d.eE+-]+,){3}[\s\d.eE+-]+\[(.+)\]\s*", re.DOTALL)
_WKT2 = QgsCoordinateReferenceSystem.WktVariant.WKT_PREFERRED


class SeriesAlgorithm(EngineAlgorithm):
    """An algorithm with the parameters ``parameters.inputs()``.

    Attributes:
        images: what the engine reads, by its option, once prepared.
    """

    #: The parameters of its outputs.
    OUTPUTS: tuple[str, ...] = ()
    #: What lacks, or does not go together, is reported by the engine; else it is refused before anything runs.
    REPORTED = False
    UNOPENED = frozenset((*(name for name, _, _, _ in definitions.IMAGES), *definitions.SURROUNDINGS))

    def __init__(self) -> None:
        super().__init__()
        self.images: checks.Chosen = {}
        self._area: list[str] = []

    def group(self) -> str:
        return tr("Image time series")

    def groupId(self) -> str:
        return "series"

    def createCustomParametersWidget(self, parent: QWidget | None = None) -> QWidget:
        # Processing's windows are there in desktop QGIS only.
        from ..dialog import EmbedDialog

        return EmbedDialog(self, parent=parent)

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        checks.refuse(parameters, context, self.OUTPUTS, self.REPORTED)

    def prepare(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        # Layers belong to the thread this is called in; the run has another.
        self.images = checks.refuse(parameters, context, self.OUTPUTS, self.REPORTED)
        self._area = self._area_of(parameters, context)
        if self.images["--s2"] and not self.images["--scl"] and _share(parameters):
            feedback.pushWarning(tr("No scene classification is given: cloudy dates are not left out."))

    def data(self, parameters: dict[str, Any], made: wrappers.Wrappers) -> list[str]:
        """Options of the engine that say what is read, and where.

        Args:
            made: for dates that only QGIS knows, and long lists.
        """
        arguments = []
        for option, found in self.images.items():
            paths = made.give(found, option.strip("-"))
            if sum(map(len, paths)) > LONG:
                paths = [made.list(option.strip("-"), paths)]
            if paths:
                arguments += [option, *paths]
        days = checks.dates(parameters)
        if days:
            arguments += ["--dates", days]
        share = _share(parameters)
        # The default means nothing without the images it is of; another share is for the engine to say so.
        if share and ((self.images["--s2"] and self.images["--scl"]) or share != f"{definitions.MAX_CLOUD:g}"):
            arguments += ["--max-cloud", share]
        return [*arguments, *self._area]

    def options(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Options of the engine that say how it computes."""
        model = self.parameterAsString(parameters, "MODEL", context).strip()
        arguments = ["--model", model] if model else []
        for name, words in definitions.CHOICES.items():
            told = checks.choice(parameters, name)
            # Models that see images alone refuse the options of the others.
            if name not in definitions.HOLES or told != words[0]:
                arguments += [f"--{name.lower().replace('_', '-')}", told]
        queries = "".join(self.parameterAsString(parameters, "QUERIES", context).split())
        for option, text in (("--memory", checks.memory(parameters)), ("--queries", queries)):
            arguments += [option, text] if text else []
        for name in ("BLOCK", "THREADS"):
            if told := checks.number(parameters, name):
                arguments += [f"--{name.lower()}", told]
        return arguments

    def _area_of(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Options of the engine that say where. Call it in the thread of the layers: the extent may be one's."""
        if parameters.get("EXTENT") in (None, ""):
            return []
        extent = self.parameterAsExtent(parameters, "EXTENT", context)
        corners = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
        if extent.isNull() or extent.isEmpty() or not all(map(math.isfinite, corners)):
            # Without this a layer without features would mean everything.
            raise checks.Refusal(tr("EXTENT has no area: choose an area or a layer with one, or leave it out."))
        crs = self._crs(parameters, context)
        numbers = (f"{number:.12f}".rstrip("0").rstrip(".") for number in corners)
        return ["--aoi", *numbers, *(["--aoi-crs", crs] if crs else [])]

    def _crs(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """CRS of the extent, "" for that of the images. As text, also where QGIS' own PROJ is broken."""
        named = _WITH_CRS.fullmatch(str(parameters["EXTENT"]))
        if named and re.fullmatch(r"EPSG:\d+", named[1]):
            return named[1]
        if named and not QgsCoordinateReferenceSystem(named[1]).isValid():
            # QGIS would take the project's.
            raise checks.Refusal(tr("EXTENT: the CRS '{}' is not known.").format(named[1]))
        crs = self.parameterAsExtentCrs(parameters, "EXTENT", context)
        if not crs.isValid():
            return ""
        # Other codes (USER:100001) mean nothing outside this QGIS.
        return crs.authid() if crs.authid().startswith("EPSG:") else crs.toWkt(_WKT2)


def _share(parameters: dict[str, Any]) -> str:
    """Largest cloud share, "" for any."""
    return checks.number({"MAX_CLOUD": definitions.MAX_CLOUD, **parameters}, "MAX_CLOUD")
