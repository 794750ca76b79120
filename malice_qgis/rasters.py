"""Opening rasters by GDAL, whatever another plugin has made of its errors."""

from __future__ import annotations

from osgeo import gdal


def open_raster(path: str) -> gdal.Dataset | None:
    """The dataset, or None if it cannot be opened.

    A plugin that calls ``gdal.UseExceptions()`` does so for all of QGIS; without that call GDAL returns None.
    """
    try:
        return gdal.Open(path)
    except RuntimeError:
        return None
