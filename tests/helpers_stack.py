"""Tiny rasters for the tests of stacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from malice_core.bands import S1, S2

UTM = "EPSG:32631"
LEFT, TOP = 500000.0, 5600000.0


def write(
    path: Path,
    data: np.ndarray,
    *,
    names: Sequence[str | None] | None = S2.bands,
    left: float = LEFT,
    top: float = TOP,
    res: float = 10.0,
    crs: str | None = UTM,
    nodata: float | None = 0,
    tags: dict[str, str] | None = None,
    transform: Affine | None = None,
    scale: float | None = None,
    offset: float | None = None,
    compress: str | None = None,
) -> Path:
    """Writes (bands, H, W) as a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = transform if transform is not None else Affine(res, 0, left, 0, -res, top)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=data.shape[0],
        height=data.shape[1],
        width=data.shape[2],
        dtype=data.dtype,
        crs=crs,
        transform=place,
        nodata=nodata,
        compress=compress,
    ) as target:
        target.write(data)
        for i, name in enumerate(names or (), 1):
            if name is not None and i <= data.shape[0]:
                target.set_band_description(i, name)
        if tags:
            target.update_tags(**tags)
        if scale is not None:
            target.scales = [scale] * data.shape[0]
        if offset is not None:
            target.offsets = [offset] * data.shape[0]
    return path


def reflectance(height: int, width: int, bands: int = 10, seed: int = 0) -> np.ndarray:
    """Plausible DN, uint16 (bands, H, W), no zeros."""
    rng = np.random.default_rng(seed)
    return rng.integers(200, 4000, (bands, height, width)).astype(np.uint16)


def smooth(rows: np.ndarray, cols: np.ndarray, bands: int = 10) -> np.ndarray:
    """A smooth DN field at pixel positions, float64 (bands, H, W)."""
    return np.stack([2000 + 800 * np.sin(rows / 7 + b) + 700 * np.cos(cols / 9 - b) for b in range(bands)])


def backscatter(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Plausible linear VV, VH, float32 (2, H, W)."""
    rng = np.random.default_rng(seed)
    return (rng.gamma(4, 0.25, (2, height, width)) * np.array([0.1, 0.02])[:, None, None]).astype(np.float32)


def write_s1(path: Path, data: np.ndarray, **options: object) -> Path:
    """As :func:`write`, VV and VH, NaN as nodata."""
    given: dict[str, object] = {"names": S1.bands, "nodata": float("nan")} | options
    return write(path, data, **given)  # type: ignore[arg-type]


def vrt_of(path: Path, source: str, *, bands: int = 1, size: int = 6, mask: bool = False) -> Path:
    """A VRT of the first bands of ``source`` (uint16, relative to it), with the source's mask if asked."""

    def part(band: object) -> str:
        name = f'<SourceFilename relativeToVRT="1">{source}</SourceFilename>'
        return f"<SimpleSource>{name}<SourceBand>{band}</SourceBand></SimpleSource>"

    planes = [f'<VRTRasterBand dataType="UInt16" band="{i}">{part(i)}</VRTRasterBand>' for i in range(1, bands + 1)]
    if mask:
        planes.append(f'<MaskBand><VRTRasterBand dataType="Byte">{part("mask,1")}</VRTRasterBand></MaskBand>')
    place = f"<SRS>{UTM}</SRS><GeoTransform>{LEFT},10,0,{TOP},0,-10</GeoTransform>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">{place}{"".join(planes)}</VRTDataset>')
    return path
