"""AgERA5's eight variables: the names they go by, the units they come in, and the numbers the network wants.

The network was trained on AgERA5 as openEO stores it: temperatures in K x 100, precipitation in mm x 100, radiation in
J m-2, vapour pressure in hPa x 1000, wind in m s-1 x 100, as are its statistics (``AUX_WEATHER`` of
``store/statistics.py``). Which unit a file uses is told by its values; what is declared only settles what they cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from malice_core.errors import InputError
from malice_core.images.sources import Findings


@dataclass(frozen=True)
class Unit:
    """A unit a variable may come in.

    Attributes:
        name: for people.
        low, high: values outside are impossible in it.
        factor, shift: network's number = (value + shift) * factor.
        peak: the greatest value of a series is at least this (0: no such bound).
        spelt: how it is declared, as :func:`_spelling` writes it.
        stored: openEO's storage: a value times 100 or 1000.
    """

    name: str
    low: float
    high: float
    factor: float
    shift: float = 0.0
    peak: float = 0.0
    spelt: tuple[str, ...] = ()
    stored: bool = False

    def fits(self, least: float, greatest: float) -> bool:
        return self.low <= least and greatest <= self.high and (greatest >= self.peak or greatest == 0)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The network's numbers of ``values``, both of any shape, float64."""
        return (np.asarray(values, np.float64) + self.shift) * self.factor


@dataclass(frozen=True)
class Variable:
    """One of the eight.

    Attributes:
        key: name in the statistics of MALICE Aux.
        title: for people.
        names: as :func:`plain` writes them: AgERA5's own, openEO's, those of tables.
        units: AgERA5's own first.
        zero: 0 is a common value, even in a file that declares 0 as nodata.
    """

    key: str
    title: str
    names: tuple[str, ...]
    units: tuple[Unit, ...]
    zero: bool = False


_TEMPERATURE = (
    Unit("K", 170, 345, 100.0, spelt=("k", "kelvin", "degk", "degreesk", "degreeskelvin")),
    # No place on Earth is as cold as 170 K or as hot as 345 K, so the ranges do not overlap.
    Unit("°C", -103, 72, 100.0, 273.15, spelt=("°c", "c", "degc", "celsius", "degreesc", "degreescelsius", "degreec")),
    Unit("K x 100", 17000, 34500, 1.0, stored=True),
)
_PRECIPITATION = (
    # Packed files hold 0 as something like -1e-6.
    Unit("mm d-1", -0.1, 2000, 100.0, spelt=("mm", "mmd", "mmday", "mmdy", "mm24h", "kgm2d", "kgm2day", "kgm2")),
    Unit("mm x 100", -10, 200000, 1.0, stored=True),
)
_RADIATION = (
    # In between lie W m-2 and kJ m-2, which are refused.
    Unit("J m-2 d-1", -1e4, 5e7, 1.0, peak=1e5, spelt=("jm2d", "jm2day", "jm2dy", "jm2")),
    Unit("MJ m-2 d-1", -0.01, 50, 1e6, spelt=("mjm2d", "mjm2day", "mjm2dy", "mjm2")),
)
_PRESSURE = (
    Unit("hPa", -0.1, 80, 1000.0, spelt=("hpa", "mbar", "mb", "millibar")),
    Unit("kPa", -0.01, 8, 10000.0, spelt=("kpa",)),
    Unit("Pa", -10, 8000, 10.0, spelt=("pa", "pascal")),
    Unit("hPa x 1000", -100, 80000, 1.0, stored=True),
)
_WIND = (
    Unit("m s-1", -0.1, 90, 100.0, spelt=("ms", "mps", "mpers", "mpersecond", "msec")),
    Unit("m s-1 x 100", -10, 9000, 1.0, peak=10, stored=True),
)


def _of_temperature(word: str, long: str) -> tuple[str, ...]:
    return (
        f"temperature_{word}",
        f"temperature_air_2m_{word}_24h",
        f"2m_temperature_24_hour_{long}",
        f"2m_temperature_{word}",
        f"temp_{word}",
        f"{word}_temperature",
        f"{word}_temp",
        f"t{word}",
    )


#: In the order of the network.
VARIABLES = (
    Variable(
        "dew_temp",
        "dew point temperature",
        (
            "dewpoint_temperature",
            "dew_point_temperature",
            "dew_point_temperature_2m_mean",
            "dew_point_temperature_2m_mean_24h",
            "2m_dewpoint_temperature",
            "2m_dewpoint_temperature_24_hour_mean",
            "dew_temp",
            "dewpoint",
            "dew_point",
        ),
        _TEMPERATURE,
    ),
    Variable(
        "prec", "precipitation", ("precipitation_flux", "precipitation", "precip", "prec"), _PRECIPITATION, zero=True
    ),
    Variable(
        "sol_rad",
        "solar radiation",
        ("solar_radiation_flux", "solar_radiation", "sol_rad", "srad"),
        _RADIATION,
        zero=True,
    ),
    Variable("temp_max", "maximum temperature", _of_temperature("max", "maximum"), _TEMPERATURE),
    Variable("temp_mean", "mean temperature", _of_temperature("mean", "mean"), _TEMPERATURE),
    Variable("temp_min", "minimum temperature", _of_temperature("min", "minimum"), _TEMPERATURE),
    Variable(
        "vap_press",
        "vapour pressure",
        (
            "vapour_pressure",
            "vapour_pressure_mean",
            "vapour_pressure_mean_24h",
            "vapour_pressure_24_hour_mean",
            "vapor_pressure",
            "vap_press",
        ),
        _PRESSURE,
    ),
    Variable(
        "wind_speed",
        "wind speed",
        (
            "wind_speed",
            "wind_speed_mean",
            "wind_speed_10m_mean",
            "wind_speed_10m_mean_24h",
            "10m_wind_speed",
            "10m_wind_speed_24_hour_mean",
        ),
        _WIND,
        zero=True,
    ),
)
KEYS = tuple(variable.key for variable in VARIABLES)
#: What a raster or table is asked to call them.
WANTED = ", ".join(variable.names[0] for variable in VARIABLES)

_KNOWN = {name: variable for variable in VARIABLES for name in variable.names}
#: A name holding one of these is another variable, whatever else it holds.
_OTHERS = re.compile(r"deficit|fraction|thickness|humidity|cover|duration|day_time|night_time|reference|count|std")


def plain(name: str) -> str:
    """``name`` in lower case, its words joined by ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def variable_of(name: str | None) -> Variable | None:
    """The variable that a band, column or netCDF variable is called after, None if it is none of the eight.

    AgERA5's other statistics (means of the day time, maxima of the night …) are none of them.
    """
    text = plain(name or "")
    return _KNOWN.get(text) or _KNOWN.get(text.removeprefix("agera5_"))


def variable_of_file(stem: str) -> Variable | None:
    """The variable a file name (without folder and extension) tells, such as
    ``Temperature-Air-2m-Mean-24h_C3S-glob-agric_AgERA5_20200101_final-v1.1``."""
    text = re.sub(r"_c3s_.*", "", plain(re.sub(r"(?<!\d)(19|20)\d{2}[-_.]?\d{2}[-_.]?\d{2}(?!\d)", "", stem)))
    known = variable_of(text)
    if known or _OTHERS.search(text):
        return known
    # Among other words only names of two words or more: "tmax" could be anything.
    inside = [name for name in _KNOWN if "_" in name and f"_{name}_" in f"_{text}_"]
    return _KNOWN[max(inside, key=len)] if inside else None


def split_unit(header: str) -> tuple[str, str]:
    """``wind_speed [m s-1]`` as name and unit; the unit may stand in brackets of any kind, or be missing ("")."""
    match = re.fullmatch(r"\s*(.*?)\s*[\[(](.*)[\])]\s*", header)
    return (match[1], match[2].strip()) if match else (header.strip(), "")


def _spelling(unit: str) -> str:
    """A declared unit without the signs that everybody writes differently: ``m s**-1`` and ``m/s`` are ``ms``."""
    return re.sub(r"(\*\*|\^)|[-−⁻·/._\s]+|1(?!\d)|¹|per(?=\s)", "", unit.lower().replace("²", "2"))


def decide(
    samples: Mapping[str, np.ndarray], declared: Mapping[str, frozenset[str]], findings: Findings
) -> dict[str, Unit]:
    """The unit of each variable, one for all files, and says what it found.

    Args:
        samples: by key, stored values of days and places spread over the data, any shape, finite.
        declared: by key, the units written in the files.
        findings: what was found, one line each.

    Raises:
        InputError: naming a variable whose values fit no unit, with the least and the greatest.
    """
    chosen: dict[str, Unit] = {}
    for variable in VARIABLES:
        values = samples[variable.key]
        if not values.size:
            raise InputError(
                f"weather: {variable.title} holds no value on the days looked at, only nodata; download it again, "
                "for an area that holds the images"
            )
        least, greatest = float(values.min()), float(values.max())
        fitting = [unit for unit in variable.units if unit.fits(least, greatest)]
        told = _declared(variable, declared.get(variable.key, frozenset()))
        if not fitting:
            raise InputError(
                f"weather: {variable.title} is {least:g} to {greatest:g}, which is no {_listed(variable.units)}; "
                "convert it, or check the name: is it another variable?"
            )
        chosen[variable.key] = fitting[0]
        if len(fitting) > 1:
            if variable.key == "vap_press":
                chosen[variable.key] = _by_dew_point(values, fitting, samples["dew_temp"], chosen["dew_temp"], findings)
            elif variable.key == "sol_rad":
                chosen[variable.key] = told if told in fitting else fitting[0]
            else:
                chosen[variable.key] = _by_storage(variable, fitting, samples, told)
        unit = chosen[variable.key]
        if told is not None and told is not unit and not unit.stored:
            findings.warn(
                f"weather: {variable.title} is declared in {told.name}, but its values ({least:g} to {greatest:g}) are "
                f"{unit.name}; the values are believed"
            )
    _refuse_unknown(declared, chosen)
    _tell(chosen, samples, findings)
    return chosen


def _declared(variable: Variable, texts: frozenset[str]) -> Unit | None:
    """The unit that all files declare, None if they do not agree or none is known."""
    spelt = {_spelling(text) for text in texts if text.strip()}
    found = [unit for unit in variable.units if spelt & set(unit.spelt)]
    return found[0] if len(found) == 1 and len(spelt) == 1 else None


def _refuse_unknown(declared: Mapping[str, frozenset[str]], chosen: Mapping[str, Unit]) -> None:
    """Refuses units that nobody knows where values would not show them: of precipitation, wind, and radiation that
    could be W m-2 of a polar winter."""
    for variable in VARIABLES:
        if variable.key in ("prec", "wind_speed") or chosen[variable.key].name.startswith("MJ"):
            known = {name for unit in variable.units for name in unit.spelt}
            # openEO writes units "" or "1" beside whole numbers.
            for text in sorted(declared.get(variable.key, ())):
                if _spelling(text) and _spelling(text) not in known:
                    raise InputError(
                        f"weather: {variable.title} is declared in '{text}', which is not {variable.units[0].name}; "
                        "convert it, or correct what is declared"
                    )


def _by_storage(variable: Variable, fitting: list[Unit], samples: Mapping[str, np.ndarray], told: Unit | None) -> Unit:
    """Precipitation and wind in openEO's storage have values that plain ones have too; the temperatures beside them
    tell which they are."""
    stored = bool(np.median(samples["temp_mean"]) >= _TEMPERATURE[2].low)
    wanted = [unit for unit in fitting if unit.stored == stored]
    if wanted:
        return wanted[0]
    least, greatest = float(samples[variable.key].min()), float(samples[variable.key].max())
    raise InputError(
        f"weather: {variable.title} is {least:g} to {greatest:g}, but the temperatures are "
        f"{'in K x 100' if stored else 'not multiplied by 100'}; give all variables from one source"
        + (f" (it is declared in {told.name})" if told else "")
    )


def saturation(kelvin: np.ndarray) -> np.ndarray:
    """Vapour pressure in hPa over water at the dew point ``kelvin`` (Magnus formula, WMO Guide No. 8, annex 4.B)."""
    celsius = np.asarray(kelvin, np.float64) - 273.15
    return np.asarray(6.112 * np.exp(17.62 * celsius / (243.12 + celsius)))


def _by_dew_point(values: np.ndarray, fitting: list[Unit], dew: np.ndarray, dew_unit: Unit, findings: Findings) -> Unit:
    """The unit in which the vapour pressure is that of the dew point.

    2 kPa and 2 hPa are both possible, but never at one dew point; units differ by 10 at least, so it need not be exact.
    """
    wanted = float(saturation(np.median(dew_unit.apply(dew)) / 100))
    middle = max(float(np.median(values)), 1e-12)
    away = [abs(float(np.log(unit.apply(np.array(middle)) / 1000 / wanted))) for unit in fitting]
    best = int(np.argmin(away))
    if away[best] > np.log(2):
        findings.warn(
            f"weather: a vapour pressure of {middle:g} {fitting[best].name} does not belong to the dew point (about "
            f"{wanted:.3g} hPa); are both of one source?"
        )
    return fitting[best]


def _listed(units: tuple[Unit, ...]) -> str:
    return ", ".join(unit.name for unit in units[:-1]) + f" or {units[-1].name}"


def _tell(chosen: Mapping[str, Unit], samples: Mapping[str, np.ndarray], findings: Findings) -> None:
    findings.note(
        "weather: units by the range of values: "
        + ", ".join(f"{variable.title} {chosen[variable.key].name}" for variable in VARIABLES)
    )
    for variable in VARIABLES:
        unit, own = chosen[variable.key], variable.units[0]
        if unit is not own and not unit.stored:
            values = samples[variable.key]
            findings.note(
                f"weather: {variable.title} converted from {unit.name} ({values.min():g} to {values.max():g}) to "
                f"{own.name}"
            )
