"""Large embeddings in QGIS: all numbers of a pixel at a click, and a map that is moved, without reading everything."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from malice_qgis import styling
from qgis.core import (
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsPointXY,
    QgsProcessingContext,
    QgsRaster,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QImage

from helpers_qgis import Log

SIDE, BANDS = 4096, 640
#: A tile that has data in all bands; the first three bands shown have data everywhere.
TILE = (15, 23)
#: Run by the engine: laid out as it writes embeddings. What is not written takes no space, and reads as nodata.
WRITE = """
import sys
import numpy as np, rasterio
from rasterio.windows import Window
from malice_core import product
path, side, row, col = sys.argv[1], *map(int, sys.argv[2:])
options = product.creation("float32", (side, side), 1, False)
tile = options["blockysize"]
rng = np.random.default_rng(1)
places = dict(crs="EPSG:32631", transform=rasterio.Affine(10, 0, 500000, 0, -10, 5600000))
names = product.band_names(["s2"], range(10), 64)
with rasterio.open(path, "w", height=side, width=side, count=640, dtype="float32", nodata=float("nan"),
                   **places, **options) as file:
    file.descriptions = names
    file.update_tags(MALICE_MODEL="malice", MALICE_DATES_S2="2018-01-05,2018-02-04")
    for band in (1, 11, 21):
        file.write(rng.normal(0, 1, (side, side)).astype("f4"), band)
    values = rng.normal(0, 1, (640, tile, tile)).astype("f4")
    file.write(values, window=Window(col * tile, row * tile, tile, tile))
np.save(path + ".npy", values)
print(tile)
"""


def told(what: str, act: Callable[[], Any]) -> tuple[Any, float]:
    """What ``act`` returns, and the megabytes it read; prints these and how long it took."""
    before, begun = _read(), time.monotonic()
    result = act()
    size = (_read() - before) / 1e6
    print(f"{what}: {time.monotonic() - begun:.3f} s, {size:.1f} MB read")
    return result, size


def _read() -> int:
    """Bytes this process has read."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def render(layer: QgsRasterLayer, extent: QgsRectangle, side: int) -> QImage:
    """The map as it is drawn."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(extent)
    settings.setOutputSize(QSize(side, side))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    return job.renderedImage()


@pytest.mark.acceptance
def test_identify_and_pan_on_640_bands(tmp_path: Path, engine_python: str, qgis_app: object) -> None:
    path = tmp_path / "large.tif"
    command = [engine_python, "-I", "-c", WRITE, str(path), *map(str, (SIDE, *TILE))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    tile, values = int(done.stdout), np.load(f"{path}.npy")
    print()
    layer, _ = told("open", lambda: QgsRasterLayer(str(path), "large", "gdal"))
    look, _ = told("look", lambda: styling.look_of(str(path)))
    assert {channel.band for channel in look.style.channels} == {1, 11, 21}
    told("dress", lambda: styling.dress(layer, look))

    def identify(row: int, col: int) -> dict[int, float]:
        point = QgsPointXY(500000 + 10 * (TILE[1] * tile + col) + 5, 5600000 - 10 * (TILE[0] * tile + row) - 5)
        return layer.dataProvider().identify(point, QgsRaster.IdentifyFormat.IdentifyFormatValue).results()

    for what, row, col in (("identify", 100, 3), ("identify in the same tile", 7, 90)):
        found, size = told(what, lambda row=row, col=col: identify(row, col))
        np.testing.assert_array_equal([found[band] for band in range(1, BANDS + 1)], values[:, row, col])
        # One tile a band, and nothing else.
        assert size < 1.2 * values.nbytes / 1e6
    whole = 3 * SIDE * SIDE * 4 / 1e6
    image, size = told("map of the whole raster", lambda: render(layer, layer.extent(), 800))
    assert image.pixelColor(400, 400).alpha() == 255
    assert 0.5 * whole < size < 1.2 * whole, "without overviews the three bands are read, and no others"
    _, size = told("the same", lambda: render(layer, layer.extent(), 800))
    assert size < 0.2 * whole
    near = QgsRectangle(510000, 5580000, 514000, 5584000)
    _, size = told("map of 400 x 400 pixels", lambda: render(layer, near, 800))
    assert size < 0.1 * whole
    near = QgsRectangle(510500, 5580000, 514500, 5584000)
    _, size = told("the same, moved", lambda: render(layer, near, 800))
    assert size < 0.05 * whole


def test_a_map_of_a_cog_reads_its_overviews(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    sizes = {}
    print()
    for form in ("gtiff", "cog"):
        path = str(tmp_path / f"{form}.tif")
        given = {"FOLDER_S2": str(scene / "mid"), "MODEL": "tiny", "QUERIES": "0", "FORMAT": form, "OUTPUT": path}
        assert provider.algorithm("embed").run(given, context, Log())[1]
        look = styling.look_of(path)
        layer = QgsRasterLayer(path, form, "gdal")
        styling.dress(layer, look)
        image, sizes[form] = told(f"map of a {form}", lambda layer=layer: render(layer, layer.extent(), 75))
        assert image.pixelColor(40, 40).alpha() == 255
    assert sizes["cog"] < sizes["gtiff"] / 2
