"""Made-up AgERA5 in every layout, and an independent formula of what its cells hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.warp import transform as transform_points

from malice_core.grid import Lattice, Window

UTM = "EPSG:32631"
#: A lattice whose pixels are 3 m off the whole tens.
LATTICE = Lattice.anchored(UTM, 10.0, 501363.0, 5629683.0)
#: 300 x 400 pixels: cells are 64.
AREA = LATTICE.window(501363, 5626683, 505363, 5629683)

#: In the network's order: openEO's names, factors from AgERA5's units to the network's.
OPENEO = (
    *("dewpoint-temperature", "precipitation-flux", "solar-radiation-flux", "temperature-max"),
    *("temperature-mean", "temperature-min", "vapour-pressure", "wind-speed"),
)
COPERNICUS = (
    *("Dew-Point-Temperature-2m-Mean", "Precipitation-Flux", "Solar-Radiation-Flux", "Temperature-Air-2m-Max-24h"),
    *("Temperature-Air-2m-Mean-24h", "Temperature-Air-2m-Min-24h", "Vapour-Pressure-Mean", "Wind-Speed-10m-Mean"),
)
COLUMNS = (
    *("dewpoint_temperature [K]", "precipitation_flux [mm d-1]", "solar_radiation_flux [J m-2 d-1]"),
    *("temperature_max [K]", "temperature_mean [K]", "temperature_min [K]", "vapour_pressure [hPa]"),
    "wind_speed [m s-1]",
)
FACTORS = np.array([100, 100, 1, 100, 100, 100, 1000, 100.0])
TYPICAL = np.array([281.0, 3.0, 1.2e7, 293.0, 288.15, 283.0, 10.4, 4.0])

#: The pixel grid: 0.1 degrees, upper left corner, rows and columns.
WEST, NORTH, STEP, ROWS, COLS = 2.5, 51.2, 0.1, 8, 12


def days(count: int, first: date = date(2020, 1, 1)) -> list[date]:
    return [first + timedelta(days=i) for i in range(count)]


def field(day: date, rows: int = ROWS, cols: int = COLS) -> np.ndarray:
    """(8, rows, cols) float32 in AgERA5's units, rough in space, another one every day."""
    rng = np.random.default_rng(day.toordinal())
    return (TYPICAL[:, None, None] * (1 + 0.02 * rng.standard_normal((8, rows, cols)))).astype(np.float32)


def flat(day: date) -> np.ndarray:
    """As :func:`field`, the same everywhere and every day."""
    return np.broadcast_to(TYPICAL[:, None, None], (8, ROWS, COLS)).astype(np.float32)


def write_raster(
    path: Path,
    values: np.ndarray,
    names: Sequence[str | None] = OPENEO,
    *,
    nodata: float | None = -9999.0,
    crs: str | None = "EPSG:4326",
    place: Affine | None = None,
    units: Sequence[str] | None = None,
) -> Path:
    """(bands, rows, cols) as a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": len(values), "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    at = place if place is not None else Affine(STEP, 0, WEST, 0, -STEP, NORTH)
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=at, nodata=nodata, **shape) as target:
        target.write(values)
        for i, name in enumerate(names[: len(values)], 1):
            if name:
                target.set_band_description(i, name)
        if units:
            target.units = units
    return path


def write_daily(folder: Path, when: Sequence[date], made: object = field, **options: object) -> Path:
    """One GeoTIFF a day with eight bands."""
    for day in when:
        write_raster(folder / f"AGERA5_{day:%Y%m%d}.tif", made(day), **options)  # type: ignore[operator, arg-type]
    return folder


def write_cube(path: Path, values: Mapping[str, np.ndarray], when: Sequence[date], *, upwards: bool = False) -> Path:
    """(days, rows, cols) by name, as netCDF with latitudes and longitudes, without CRS, as AgERA5 has them."""
    import pandas as pd
    import xarray as xr

    rows, cols = next(iter(values.values())).shape[1:]
    lat, lon = NORTH - STEP * (np.arange(rows) + 0.5), WEST + STEP * (np.arange(cols) + 0.5)
    turn = slice(None, None, -1) if upwards else slice(None)
    coordinates = {
        "time": pd.DatetimeIndex([pd.Timestamp(day) for day in when]),
        "lat": ("lat", lat[turn], {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": ("lon", lon, {"standard_name": "longitude", "units": "degrees_east"}),
    }
    arrays = {name: (("time", "lat", "lon"), planes[:, turn]) for name, planes in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    xr.Dataset(arrays, coordinates).to_netcdf(path)
    return path


def write_copernicus(folder: Path, when: Sequence[date], *, upwards: bool = False) -> Path:
    """One netCDF a variable and day, as the Copernicus store delivers."""
    for day in when:
        for name, plane in zip(COPERNICUS, field(day), strict=True):
            file = folder / name / f"{name}_C3S-glob-agric_AgERA5_{day:%Y%m%d}_final-v1.1.area-subset.51.2.50.4.nc"
            write_cube(file, {name.replace("-", "_"): plane[None]}, [day], upwards=upwards)
    return folder


def write_table(path: Path, when: Sequence[date], *, header: Sequence[str] = COLUMNS, sign: str = ",") -> Path:
    """One row a day: :func:`series`."""
    lines = [sign.join(["date", *header])]
    for day in when:
        lines.append(sign.join([f"{day}", *(f"{value:.9g}" for value in series(day))]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def series(day: date) -> np.ndarray:
    """(8,) in AgERA5's units."""
    return field(day)[:, 0, 0].astype(np.float64)


def centres(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude (rows, cols) of the centres of the cells that touch ``window``."""
    rows = np.arange(window.row // 64, (window.end_row - 1) // 64 + 1)
    cols = np.arange(window.col // 64, (window.end_col - 1) // 64 + 1)
    x, y = np.meshgrid(LATTICE.x0 + (cols * 64 + 32) * 10.0, LATTICE.y0 - (rows * 64 + 32) * 10.0)
    lon, lat = transform_points(UTM, "EPSG:4326", x.ravel().tolist(), y.ravel().tolist())
    return np.reshape(lon, x.shape), np.reshape(lat, x.shape)


def expected(window: Window, dates: Sequence[date], made: object = field) -> np.ndarray:
    """(rows, cols, T, 48) float64: bilinear, pixel by pixel."""
    lon, lat = centres(window)
    r, c = (NORTH - lat) / STEP - 0.5, (lon - WEST) / STEP - 0.5
    out = np.empty((*lon.shape, len(dates), 8, 6))
    for i, j in np.ndindex(*lon.shape):
        y, x = int(r[i, j]), int(c[i, j])
        v, u = r[i, j] - y, c[i, j] - x
        for t, day in enumerate(dates):
            for k in range(6):
                f = made(day + timedelta(days=k - 4)).astype(np.float64)  # type: ignore[operator]
                top = f[:, y, x] * (1 - u) + f[:, y, x + 1] * u
                bottom = f[:, y + 1, x] * (1 - u) + f[:, y + 1, x + 1] * u
                out[i, j, t, :, k] = (top * (1 - v) + bottom * v) * FACTORS
    return out.reshape(*lon.shape, len(dates), 48)
