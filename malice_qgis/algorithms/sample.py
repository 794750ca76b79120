"""``malice:sample``: the embedding at points, as columns of their table."""

from __future__ import annotations

import os
import shutil
from typing import Any

from qgis.core import (
    QgsFeatureSink,
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterString,
    QgsProcessingUtils,
    QgsWkbTypes,
)

from .. import checks, sinks, styling, vectors
from ..rasters import open_raster
from ..texts import tr
from . import options
from .base import EngineRun
from .parameters import helped
from .tool import ToolAlgorithm, temporary_folder

#: Columns of a Shapefile's table.
SHAPEFILE = 255


class SampleAlgorithm(ToolAlgorithm):
    """Parameters, texts, and the engine's table as features."""

    ID = "sample"
    HELP = "docs/qgis_tools.md#sample-at-points"
    MODULE = "malice_core.sample"
    TAGS = "sample,extract,points,values,table,attributes,embedding,features,malice"

    def displayName(self) -> str:
        return tr("Sample at points")

    def shortDescription(self) -> str:
        return tr("The embedding at points, as columns of their attribute table.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Reads the embedding at <b>points</b> and adds a column a band to their attributes, for statistics, "
            "plots or learning elsewhere. Numbers are those of the embedding, whatever type it is stored in.</p>"
            "<p>Points outside the raster and on pixels without data have empty values. Each part of a multipoint "
            "becomes a point. A Shapefile takes 255 columns at most: choose a GeoPackage, or an "
            "embedding with fewer queries.</p>"
        )

    def definitions(self) -> list[QgsProcessingParameterDefinition]:
        point = QgsProcessing.SourceType.TypeVectorPoint
        return [
            options.embedding(),
            helped(
                QgsProcessingParameterFeatureSource("POINTS", tr("Points"), [point]),
                tr("In any CRS, also a layer in memory. Selected features only, if told."),
            ),
            helped(
                QgsProcessingParameterString("PREFIX", tr("Prefix of the columns"), None, False, True),
                tr("Before the names of the bands, such as y2024_, to keep the columns of several years apart."),
            ),
            *options.computing(),
            helped(
                QgsProcessingParameterFeatureSink("OUTPUT", tr("Points with the embedding"), point),
                tr("The points with their attributes and a column a band (Q00F00 …); any vector format."),
            ),
        ]

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        super().refuse(parameters, context)
        source = self.parameterAsSource(parameters, "POINTS", context)
        dataset = open_raster(self.rasters["INPUT"].path) if "INPUT" in self.rasters else None
        if source is None or dataset is None:
            return
        count, target = dataset.RasterCount + len(source.fields()), checks.target(parameters, "OUTPUT")
        if target.lower().endswith((".shp", ".dbf")) and count > SHAPEFILE:
            text = tr("OUTPUT {0} would have {1} columns, and a Shapefile takes {2}: choose a GeoPackage (.gpkg).")
            raise checks.Refusal(text.format(target, count, SHAPEFILE))

    def work(
        self,
        run: EngineRun,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        source = self.parameterAsSource(parameters, "POINTS", context)
        if source is None:
            raise checks.Refusal(self.invalidSourceError(parameters, "POINTS"))
        folder = temporary_folder()
        try:
            given, found = os.path.join(folder, "points.gpkg"), os.path.join(folder, "points.csv")
            points = vectors.write_points("POINTS", source, given, run.cancelled)
            run.aliases[given] = vectors.said(source)
            arguments = [*self.options(run, parameters, context, folder), f"--points={given}", f"--output={found}"]
            run.execute(self.MODULE, arguments, [found])
            table = vectors.Table(found)
            fields = QgsProcessingUtils.combineFields(source.fields(), table.fields())
            with sinks.Destination(self, parameters, "OUTPUT", context) as destination:
                kind = QgsWkbTypes.singleType(source.wkbType())
                # Parts of a multipoint share the number of its row.
                flag = QgsFeatureSink.SinkFlag.RegeneratePrimaryKey
                sink = destination.open(fields, kind, source.sourceCrs(), flag)
                vectors.fill(table, points, fields, sink, run.cancelled)
                target = destination.place()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if context.willLoadLayerOnCompletion(target):
            styling.entitle(context, target, parameters.get("OUTPUT"), self.title(tr("Points")))
        return {"OUTPUT": target}
