"""What MALICE Aux wants to know besides pixels, as tables: the text of the CSV files of a scene.

Weather has the columns AgERA5 has as a table, in its units; angles are in degrees, one row a date (``docs/aux.md``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from malice_core.simulation.passes import Pass, Spec, span
from malice_core.simulation.weather import Weather

#: Columns of the weather: name, unit, decimals.
_WEATHER = (
    ("dewpoint_temperature", "K", 3),
    ("precipitation_flux", "mm d-1", 2),
    ("solar_radiation_flux", "J m-2 d-1", 0),
    ("temperature_max", "K", 3),
    ("temperature_mean", "K", 3),
    ("temperature_min", "K", 3),
    ("vapour_pressure", "hPa", 3),
    ("wind_speed", "m s-1", 2),
)
ZERO = 273.15


def weather_table(spec: Spec, weather: Weather) -> str:
    """Every day a date of the scene can want: from four before its year of images to one after."""
    air = weather.air
    kelvin = (air.dew, air.most, air.temperature, air.least)
    dew, most, mean, least = (series + ZERO for series in kelvin)
    columns = (dew, air.rain, air.light, most, mean, least, air.vapour, air.wind)
    begin, end = span(spec)
    first = begin - timedelta(days=4)
    rows = []
    for i in range((end - first).days + 1):
        day = first + timedelta(days=i)
        number = (day - begin.replace(month=1)).days + 1
        values = (weather.at(series, number) for series in columns)
        rows.append(
            [f"{day}", *(f"{value:.{digits}f}" for value, (_, _, digits) in zip(values, _WEATHER, strict=True))]
        )
    return _csv(["date", *(f"{name} [{unit}]" for name, unit, _ in _WEATHER)], rows)


def s2_angles_table(passes: Sequence[Pass]) -> str:
    """Sun and view of Sentinel-2's dates."""
    names = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
    return _csv(("date", "acquisition_utc", *names, "relative_orbit"), (
        [*_when(taken), *(f"{value:.3f}" for value in (*taken.sun, *taken.view)), f"{taken.orbit}"] for taken in passes
    ))  # fmt: skip


def s1_angles_table(passes: Sequence[Pass]) -> str:
    """Incidence of Sentinel-1's dates."""
    return _csv(("date", "acquisition_utc", "incidence_angle", "relative_orbit"), (
        [*_when(taken), f"{taken.incidence:.3f}", f"{taken.orbit}"] for taken in passes
    ))  # fmt: skip


def _when(taken: Pass) -> tuple[str, str]:
    return f"{taken.when:%Y-%m-%d}", f"{taken.when:%Y-%m-%dT%H:%M:%SZ}"


def _csv(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    return "".join(",".join(row) + "\n" for row in (header, *rows))
