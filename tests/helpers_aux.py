"""Weather, terrain and angles beside a small stack of ``helpers_dataset`` or ``helpers_pretrain``."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
from helpers_dataset import FIRST
from helpers_stack import LEFT, TOP, write
from helpers_weather import days, write_daily, write_table

#: From four days before the first date to one after the last of 60 days.
WEATHER_DAYS = days(66, FIRST - timedelta(days=4))


def elevation(height: int, width: int) -> np.ndarray:
    """Hills, metres, float32 (H, W)."""
    rows, cols = np.mgrid[:height, :width]
    return (120 + 30 * np.sin(rows / 5) + 25 * np.cos(cols / 7)).astype(np.float32)


def s2_degrees(day: date) -> tuple[float, float, float, float]:
    """Zenith and azimuth of the sun and of the view: made up, another one every day."""
    number = (day - FIRST).days
    return 50 - 0.3 * number, 160 + 0.1 * number, 3 + 0.1 * number, 100 + number


def s1_degrees(day: date) -> float:
    return 35 + 0.1 * (day - FIRST).days


def write_around(folder: Path, height: int = 48, width: int = 64, *, shift: int = 0, table: bool = True) -> Path:
    """AGERA5.csv (or rasters in AGERA5), DEM.tif, S2_angles.csv and S1_angles.csv; ``shift`` as of ``write_stack``."""
    if table:
        write_table(folder / "AGERA5.csv", WEATHER_DAYS)
    else:
        write_daily(folder / "AGERA5", WEATHER_DAYS)
    place = {"left": LEFT + 10.0 * shift, "top": TOP - 10.0 * shift}
    write(folder / "DEM.tif", elevation(height, width)[None], names=None, nodata=-9999.0, **place)
    when = [FIRST + timedelta(days=i) for i in range(61)]
    lines = ["date,sun_zenith,sun_azimuth,view_zenith,view_azimuth"]
    lines += [f"{day}," + ",".join(f"{value:.6f}" for value in s2_degrees(day)) for day in when]
    (folder / "S2_angles.csv").write_text("\n".join(lines) + "\n")
    lines = ["date,incidence_angle", *(f"{day},{s1_degrees(day):.6f}" for day in when)]
    (folder / "S1_angles.csv").write_text("\n".join(lines) + "\n")
    return folder


def around(folder: Path, *sensors: str) -> list[str]:
    """Options of ``dataset build`` and ``embed`` for what ``write_around`` or the simulator has written, of these or
    both sensors."""
    weather = folder / "AGERA5.csv"
    options = {
        "weather": weather if weather.exists() else folder / "AGERA5",
        "dem": folder / "DEM.tif",
    }
    options |= {f"{sensor}-angles": folder / f"{sensor.upper()}_angles.csv" for sensor in sensors or ("s2", "s1")}
    return [text for name, path in options.items() for text in (f"--{name}", f"{path}")]
