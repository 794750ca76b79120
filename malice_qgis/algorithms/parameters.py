"""The parameters of ``malice:embed``: names, kinds, defaults, help; nothing else."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDateTime,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ..models import INSTALLED
from ..texts import marked, tr

#: Choices by parameter, in the engine's words; the first is the default.
CHOICES = {
    "EDGE": ["mirror", "published"],
    "NODATA": ["mask", "zero"],
    "DTYPE": ["float32", "float16", "int16", "int8"],
    "FORMAT": ["gtiff", "cog"],
    "DEVICE": ["auto", "cpu", "cuda"],
    "PRECISION": ["float32", "bfloat16", "float16"],
    "WEATHER_GAPS": ["error", "nearest", "drop-date"],
    "DEM_NODATA": ["error", "fill"],
    "ANGLES": ["error", "median"],
}
#: Numbers by parameter: whether whole, least, largest.
NUMBERS = {"MAX_CLOUD": (False, 0, 100), "BLOCK": (True, 8, 16384), "THREADS": (True, 1, 1024)}
#: Used where a scene classification is given: what users of the published networks take.
MAX_CLOUD = 30.0
MEMORY = "2GB"
#: Kinds of images: parameter of layers, parameter of a folder, option of the engine, name for people.
IMAGES = (
    ("INPUT_S2", "FOLDER_S2", "--s2", "Sentinel-2"),
    ("INPUT_S1", "FOLDER_S1", "--s1", "Sentinel-1"),
    ("SCL", "FOLDER_SCL", "--scl", marked("scene classification")),
)
#: What MALICE Aux networks know besides images, with its option of the engine, and what is done where it has holes.
#: Other networks take none of it.
SURROUNDINGS = {"WEATHER": "--weather", "DEM": "--dem", "ANGLES_S2": "--s2-angles", "ANGLES_S1": "--s1-angles"}
HOLES = ("WEATHER_GAPS", "DEM_NODATA", "ANGLES")
#: Options of the engine that are not called as their parameter is, and what a dialog has in their place.
UNLIKE = {
    **{option: f"{layers}/{folder}" for layers, folder, option, _ in IMAGES},
    **{option: name for name, option in SURROUNDINGS.items()},
    "--dates": "DATE_FROM/DATE_TO",
    "--aoi": "EXTENT",
    "--aoi-crs": "the CRS of EXTENT",
}


def helped(parameter: QgsProcessingParameterDefinition, text: str) -> QgsProcessingParameterDefinition:
    """The parameter with a help text."""
    parameter.setHelp(text)
    return parameter


def advanced(parameter: QgsProcessingParameterDefinition) -> QgsProcessingParameterDefinition:
    """The parameter among the advanced ones."""
    parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
    return parameter


def _layers(name: str, label: str, text: str) -> QgsProcessingParameterDefinition:
    kind = QgsProcessing.SourceType.TypeRaster
    return helped(QgsProcessingParameterMultipleLayers(name, label, kind, optional=True), text)


def _folder(name: str, label: str, text: str) -> QgsProcessingParameterDefinition:
    behaviour = QgsProcessingParameterFile.Behavior.Folder
    return helped(QgsProcessingParameterFile(name, label, behaviour, optional=True), text)


def _paths(name: str, label: str, text: str) -> QgsProcessingParameterDefinition:
    """A text: a path, several in quotes as QGIS' widgets write them, or a folder.

    (A list of files would do as well, but of one in the history QGIS 3.22 shows only what it can open as layers.)
    """
    # QGIS' own filter, *.*, refuses names without a dot, as folders have.
    kind, every = QgsProcessingParameterFile.Behavior.File, tr("All files (*)")
    return helped(QgsProcessingParameterFile(name, label, kind, optional=True, fileFilter=every), text)


def _choice(name: str, label: str, text: str) -> QgsProcessingParameterDefinition:
    options = CHOICES[name]
    parameter = QgsProcessingParameterEnum(
        name, label, options, defaultValue=options[0], optional=False, usesStaticStrings=True
    )
    return helped(parameter, text)


def _number(name: str, label: str, text: str, default: Any = None) -> QgsProcessingParameterDefinition:
    whole, low, high = NUMBERS[name]
    kind = QgsProcessingParameterNumber.Type.Integer if whole else QgsProcessingParameterNumber.Type.Double
    parameter = QgsProcessingParameterNumber(name, label, kind, default, True, low, high)
    # Else dialogs show six.
    parameter.setMetadata({"widget_wrapper": {"decimals": 0 if whole else 1}})
    return helped(parameter, text)


def _model() -> QgsProcessingParameterDefinition:
    """A text, so that any name can be given, also in batch and models; the dialog makes a list of it."""
    text = tr("Name of an installed model; empty: the published one where it is installed.")
    parameter = QgsProcessingParameterString("MODEL", tr("Model"), INSTALLED.default() or None, False, True)
    return helped(parameter, "\n".join([text, *INSTALLED.describe()]))


def _surroundings() -> list[QgsProcessingParameterDefinition]:
    """Weather, terrain and angles: of MALICE Aux networks alone."""
    aux = tr("For MALICE Aux models only, which need it.") + " "
    return [
        _paths(
            "WEATHER",
            tr("Weather (AgERA5 files or folder)"),
            aux
            + tr(
                "Daily AgERA5: rasters of a day, files of the Copernicus Climate Data Store, netCDF, a folder of them, "
                "or a CSV with a date and eight columns. Every date of the images needs its own day, the four before "
                "and the one after."
            ),
        ),
        _choice(
            "WEATHER_GAPS",
            tr("Days without weather"),
            tr("error: the run ends and names them. nearest: the nearest day is taken. drop-date: a date is left out."),
        ),
        helped(
            QgsProcessingParameterRasterLayer("DEM", tr("Elevation (DEM)"), None, True),
            aux
            + tr("A raster of metres above sea level, such as Copernicus GLO-30, in any CRS, that covers the area."),
        ),
        _choice(
            "DEM_NODATA",
            tr("Holes of the DEM"),
            tr("error: the run ends and counts them. fill: elevations around them are taken, up to 64 pixels away."),
        ),
        _paths(
            "ANGLES_S2",
            tr("Sentinel-2 angles (files or folder)"),
            aux
            + tr(
                "Sun and view: a CSV with a date and the columns sun_zenith sun_azimuth view_zenith view_azimuth in "
                "degrees, STAC items (.json), an MTD_TL.xml, or a folder of .SAFE products."
            ),
        ),
        _paths(
            "ANGLES_S1",
            tr("Sentinel-1 incidence angle (files, folder or degrees)"),
            aux
            + tr(
                "A CSV with a date and incidence_angle in degrees, STAC items (.json), a folder of them, a number such "
                "as 38.5 for all dates, or 161=39.1 for a relative orbit (several with blanks between)."
            ),
        ),
        _choice(
            "ANGLES",
            tr("Dates without angles"),
            tr("error: the run ends and names them. median: the median of the network's training is taken."),
        ),
    ]


def inputs() -> list[QgsProcessingParameterDefinition]:
    """Images, model and choice of data."""
    date = QgsProcessingParameterDateTime.Type.Date
    return [
        _layers(
            "INPUT_S2",
            tr("Sentinel-2 images (layers)"),
            tr(
                "Layers with surface reflectance (L2A), one a date, with the bands B02 B03 B04 B05 B06 B07 B08 B8A "
                "B11 B12. The date comes from the time axis, the name or the tags, else from the layer's temporal "
                "range. 6 to 18 months are recommended."
            ),
        ),
        _folder(
            "FOLDER_S2",
            tr("Sentinel-2 images (folder)"),
            tr("In place of layers, or besides them: a folder of images or products. Dates come from names or tags."),
        ),
        _layers(
            "INPUT_S1",
            tr("Sentinel-1 images (layers)"),
            tr("Layers with VV and VH as linear gamma0 (not decibels), one a date, ascending orbits."),
        ),
        _folder("FOLDER_S1", tr("Sentinel-1 images (folder)"), tr("As for Sentinel-2.")),
        _layers(
            "SCL",
            tr("Sentinel-2 scene classification (layers)"),
            tr("Layers with the classes (SCL) of the Sentinel-2 dates, from which cloud shares are computed."),
        ),
        _folder("FOLDER_SCL", tr("Sentinel-2 scene classification (folder)"), tr("As for Sentinel-2.")),
        _model(),
        helped(
            QgsProcessingParameterDateTime("DATE_FROM", tr("First date"), date, None, True),
            tr("Images before this day are left out."),
        ),
        helped(
            QgsProcessingParameterDateTime("DATE_TO", tr("Last date"), date, None, True),
            tr("Images after this day are left out."),
        ),
        _number(
            "MAX_CLOUD",
            tr("Maximum cloud cover (%)"),
            tr(
                "Sentinel-2 dates with more cloud and cloud shadow in the area are left out. Used when a scene "
                "classification is given."
            ),
            MAX_CLOUD,
        ),
        helped(
            QgsProcessingParameterExtent("EXTENT", tr("Area of interest"), None, True),
            tr("In any CRS, grown outwards to whole pixels of the images. By default all that the images cover."),
        ),
    ]


def options() -> list[QgsProcessingParameterDefinition]:
    """What is computed, and how."""
    plain = [
        _choice(
            "DTYPE",
            tr("Number type"),
            tr(
                "float32: as computed. float16: half the file. int16: half the file, with scale and offset that QGIS "
                "applies. int8: an eighth, with a scale raster NAME_scale.tif beside it."
            ),
        ),
        _choice("FORMAT", tr("File format"), tr("gtiff: tiled GeoTIFF. cog: cloud-optimised, with overviews.")),
        helped(
            QgsProcessingParameterString("QUERIES", tr("Queries, such as 0,3 (empty: all)"), None, False, True),
            tr(
                "Only these of the model's queries, numbers from 0 to 9. Each has 64 bands a sensor; fewer make a "
                "smaller file."
            ),
        ),
    ]
    rare = [
        *_surroundings(),
        _choice(
            "EDGE",
            tr("Edges of the images"),
            tr(
                "mirror: images are continued by reflection, results do not depend on the area. published: as the "
                "published code does; width and height must be multiples of 8."
            ),
        ),
        _choice(
            "NODATA",
            tr("Missing observations"),
            tr("mask: left out. zero: enter as zeros, as in the published code."),
        ),
        helped(
            QgsProcessingParameterString("MEMORY", tr("Memory limit"), MEMORY),
            tr("Memory to stay under, such as 2GB; decides the size of blocks. The result does not depend on it."),
        ),
        _number(
            "BLOCK",
            tr("Side of a block (pixels)"),
            tr("A multiple of 8; wins over the memory. By default chosen from it."),
        ),
        _number("THREADS", tr("Processor threads"), tr("By default all.")),
        _choice("DEVICE", tr("Device"), tr("cuda needs an engine with a runtime for it.")),
        _choice(
            "PRECISION",
            tr("Precision"),
            tr("A little less exact, and faster: bfloat16 on processors that have it, float16 on a graphics card."),
        ),
        helped(
            QgsProcessingParameterBoolean("RESUME", tr("Go on with an interrupted run"), False),
            tr(
                "Continues what a cancelled or failed run with the same inputs, options and output file left beside "
                "the output. Not with temporary outputs."
            ),
        ),
    ]
    return [*plain, *(advanced(one) for one in rare)]


def outputs() -> list[QgsProcessingParameterDefinition]:
    """Where results go."""
    return [
        helped(
            QgsProcessingParameterRasterDestination("OUTPUT", tr("Embedding")),
            tr("GeoTIFF with 64 bands a query and sensor, named Q00F00 … Q09F63."),
        ),
        helped(
            QgsProcessingParameterRasterDestination("COUNTS", tr("Number of valid dates"), None, True, False),
            tr("How many dates each pixel was seen on, one band a sensor."),
        ),
        helped(
            QgsProcessingParameterFileDestination(
                "PLAN", tr("Plan of the run"), tr("HTML files (*.html)"), None, True, False
            ),
            tr("All that was decided before computing: dates and why others were left out, area, blocks, memory."),
        ),
    ]
