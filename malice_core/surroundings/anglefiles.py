"""Angles of sun and view as files give them: tables, STAC items, metadata of Sentinel-2 granules.

Every file becomes records in degrees, each of one day (or of one orbit). What a column or property means is decided by
the words of its name, see ``images/anglenames.py``; zenith angles go before the elevations they could be computed from.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from malice_core.errors import InputError
from malice_core.images.anglenames import (
    NAMES,
    QUANTITIES,
    SUN_AZIMUTH,
    SUN_ZENITH,
    VIEW_AZIMUTH,
    VIEW_ZENITH,
    Quantity,
    words,
)
from malice_core.images.dates import from_name, from_product, from_tags

#: Larger files are no tables or metadata of a series.
LARGEST = 64 << 20


@dataclass(frozen=True)
class Record:
    """What one row, item or file says.

    Attributes:
        day: day of sensing, UTC; None: holds for all days (of ``orbit``).
        orbit: relative orbit, None where unknown.
        degrees: by ``QUANTITIES`` of the sensor; None where it says nothing.
    """

    day: date | None
    orbit: int | None
    degrees: tuple[float | None, ...]


_DAYS = (
    *("acquisition utc", "acquisition", "acquisition date", "acquisition time", "sensing time", "sensing date"),
    *("date", "datetime", "date time", "day", "time", "timestamp", "utc"),
)
_TITLES = ("file", "filename", "file name", "name", "product", "product id", "id", "image", "title", "system index")
_ORBITS = re.compile(r"(?:sat )?(?:relative )?orbit(?: number)?(?: inferred from time)?|track")
_NOTHING = ("", "nan", "null", "none", "na", "n/a", "-")


def checked(quantity: Quantity, degrees: float, day: date | None, source: str) -> float:
    """``degrees`` if it is possible.

    Raises:
        InputError: if not, with the value, the day and where it is from.
    """
    if not quantity.low <= degrees <= quantity.high:
        when = f" of {day}" if day else ""
        raise InputError(
            f"{source}: {quantity.name}{when} is {degrees:g}, possible are {quantity.low:g} to {quantity.high:g} "
            "degrees; correct it, or leave it empty"
        )
    return degrees


def mean(quantity: Quantity, degrees: Sequence[float]) -> float | None:
    """The mean angle; None without any, or if directions cancel out."""
    if not degrees:
        return None
    if not quantity.circular:
        return sum(degrees) / len(degrees)
    east = sum(math.sin(math.radians(value)) for value in degrees) / len(degrees)
    north = sum(math.cos(math.radians(value)) for value in degrees) / len(degrees)
    return math.degrees(math.atan2(east, north)) if math.hypot(east, north) > 1e-6 else None


class _Meanings:
    """Which columns or properties hold the angles of a sensor.

    Args:
        names: of columns or properties.

    Raises:
        InputError: if two of them are called alike.
    """

    def __init__(self, names: Iterable[str], sensor: str, source: str) -> None:
        spelt = [(name, *words(name)) for name in names]
        self.sensor, self.source = sensor, source
        self.found: list[list[tuple[Callable[[float], float], list[str]]]] = []
        for quantity in QUANTITIES[sensor]:
            choices = []
            for known, convert in NAMES[quantity]:
                members = [(name, banded) for name, word, banded in spelt if word in known]
                if sum(not banded for _, banded in members) > 1:
                    shown = ", ".join(name for name, _ in members)
                    raise InputError(f"{source}: {shown} all name the {quantity.name}; keep one of them")
                if members:
                    # One for the whole image goes before those of single bands.
                    whole = [name for name, banded in members if not banded]
                    choices.append((convert, whole or [name for name, _ in members]))
            self.found.append(choices)

    def read(self, row: Mapping[str, Any], day: date | None, comma: bool = False) -> tuple[float | None, ...]:
        """The angles of a row or item."""
        degrees: list[float | None] = []
        for quantity, choices in zip(QUANTITIES[self.sensor], self.found, strict=True):
            value = None
            for convert, names in choices:
                given = [(name, _number(row.get(name), f"{self.source}: {name}", day, comma)) for name in names]
                values = [convert(number) for _, number in given if number is not None]
                value = mean(quantity, [checked(quantity, number, day, self.source) for number in values])
                if value is not None:
                    break
            degrees.append(value)
        return tuple(degrees)


def _number(value: Any, what: str, day: date | None, comma: bool) -> float | None:
    """A number, None for what means "nothing".

    Raises:
        InputError: naming ``what`` and the value.
    """
    text = "" if value is None else str(value).strip()
    if text.lower() in _NOTHING:
        return None
    try:
        number = float(text.replace(",", ".") if comma else text)
    except ValueError as error:
        when = f" of {day}" if day else ""
        raise InputError(f"{what}{when} is '{text:.40}', no number; correct it, or leave it empty") from error
    return number if math.isfinite(number) else None


def _bytes_of(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: if it is not there, or too large.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise InputError(f"{path}: has {size >> 20} MB, too much for a file of angles; give the right one")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _text_of(path: Path) -> str:
    """As :func:`_bytes_of`, as text."""
    try:
        return _bytes_of(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 text; save it again as UTF-8") from error


def from_table(path: Path, sensor: str) -> list[Record]:
    """Records of a CSV file with a header line; comma, semicolon (then with decimal commas too) or tab.

    The day is in a column such as ``date`` or ``acquisition_utc``, or in the names of files in a column ``file``. A
    table without either that has a column ``relative_orbit`` holds for all days of these orbits.

    Raises:
        InputError: naming the line and what is wrong with it.
    """
    lines = _text_of(path).splitlines()
    if len(lines) < 2:
        raise InputError(f"{path}: has no header line and rows; write a column for the date and one for each angle")
    separator = max(",;\t", key=lines[0].count)
    rows = csv.DictReader(lines, delimiter=separator)
    names = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = names
    meanings = _Meanings(names, sensor, f"{path}")
    wanted = ", ".join(quantity.name.replace(" ", "_") for quantity in QUANTITIES[sensor])
    if not any(meanings.found):
        raise InputError(
            f"{path}: no angle among its columns {', '.join(names):.200}; wanted are date and, in degrees, {wanted}"
        )
    spelt = {words(name)[0]: name for name in reversed(names)}
    days = [spelt[word] for word in (*_DAYS, *_TITLES) if word in spelt]
    orbits = [name for word, name in spelt.items() if _ORBITS.fullmatch(word)]
    if not days and not orbits:
        raise InputError(f"{path}: no column of dates among {', '.join(names):.200}; add one called date (YYYY-MM-DD)")
    records = []
    for row in _rows(rows, path):
        where = meanings.source = f"{path}, line {rows.line_num}"
        known = [from_name(str(row.get(name) or ""), where) for name in days]
        day = next((one.date for one in known if one.date), None)
        if days and day is None:
            raise InputError(f"{where}: no date in '{row.get(days[0])}'; write it as YYYY-MM-DD")
        orbit = next((one.orbit for one in known if one.orbit), None)
        if orbits:
            orbit = _orbit(row.get(orbits[0]), where) or orbit
        records.append(Record(day, orbit, meanings.read(row, day, comma=separator == ";")))
    return records


def _rows(rows: csv.DictReader[str], path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: {error}; save it as a CSV again") from error


def _orbit(value: Any, where: str) -> int | None:
    text = str("" if value is None else value).strip().lower()
    if text in _NOTHING:
        return None
    if not re.fullmatch(r"r?\d{1,3}(\.0*)?", text) or not 1 <= float(text.lstrip("r")) <= 175:
        raise InputError(f"{where}: relative orbit '{text:.20}' is none of 1 to 175; correct it, or leave it empty")
    return int(float(text.lstrip("r")))


def from_stac(path: Path, sensor: str) -> list[Record]:
    """Records of a STAC item, or of a collection of items (the answer of a search).

    Properties of the view extension (``view:sun_elevation``, ``view:sun_azimuth``, ``view:incidence_angle``,
    ``view:off_nadir``, ``view:azimuth``), or such as ``s2:mean_solar_zenith``.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    try:
        content = json.loads(_text_of(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON: {error}; give a STAC item") from error
    items = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(items, list) or not items:
        raise InputError(f"{path}: holds no STAC item; give an item or a collection of items")
    records = []
    for number, item in enumerate(items, 1):
        properties = item.get("properties") if isinstance(item, dict) else None
        where = f"{path}" + (f", item {number}" if len(items) > 1 else "")
        if not isinstance(properties, dict):
            raise InputError(f"{where}: is no STAC item (no properties); give an item or a collection of items")
        title = str(item.get("id", ""))
        tags = {key: str(value) for key, value in properties.items() if value is not None}
        known = from_tags({"datetime": tags.get("start_datetime", ""), **tags})
        known = known.filled_by(from_name(title, where))
        if known.date is None:
            raise InputError(f"{where}: '{title:.80}' has no datetime; give items with properties.datetime")
        degrees = _Meanings(properties, sensor, f"{where} ({title:.80})").read(properties, known.date)
        records.append(Record(known.date, known.orbit, degrees))
    return records


class _Builder(ElementTree.TreeBuilder):
    """Refuses documents that declare a type, because entities come that way; metadata of Sentinel-2 has none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise InputError("declares a document type (DOCTYPE), which metadata of Sentinel-2 does not")


def from_granule(path: Path) -> Record:
    """Angles of a Sentinel-2 granule from ``MTD_TL.xml``: the mean sun, and the mean view over bands.

    Where the means are missing, they are those of the grids, for the view over all bands and detectors.

    Raises:
        InputError: if the file is no such metadata.
    """
    content = _bytes_of(path)
    try:
        root = ElementTree.fromstring(content, parser=ElementTree.XMLParser(target=_Builder()))
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: is no whole XML ({error}); copy the product's MTD_TL.xml again") from error
    except InputError as error:
        raise InputError(f"{path}: {error}; give the product's own MTD_TL.xml") from error
    found: dict[str, list[ElementTree.Element]] = {}
    for element in root.iter():
        found.setdefault(element.tag.rsplit("}", 1)[-1], []).append(element)
    if "Tile_Angles" not in found:
        raise InputError(f"{path}: has no Tile_Angles; give the MTD_TL.xml of the granule, not the product's metadata")
    times = [element.text or "" for element in found.get("SENSING_TIME", [])]
    known = from_name(times[0], f"{path}") if times else None
    names = [one for one in (from_product(part) for part in reversed(path.absolute().parts)) if one is not None]
    day = known.date if known is not None and known.date else next((one.date for one in names), None)
    if day is None:
        raise InputError(f"{path}: has no SENSING_TIME; give the product's own MTD_TL.xml")
    orbit = next((one.orbit for one in names if one.orbit and one.date == day), None)
    degrees = []
    for quantity, means, grids in (
        (SUN_ZENITH, "Mean_Sun_Angle", "Sun_Angles_Grid"),
        (SUN_AZIMUTH, "Mean_Sun_Angle", "Sun_Angles_Grid"),
        (VIEW_ZENITH, "Mean_Viewing_Incidence_Angle", "Viewing_Incidence_Angles_Grids"),
        (VIEW_AZIMUTH, "Mean_Viewing_Incidence_Angle", "Viewing_Incidence_Angles_Grids"),
    ):
        kind = "Azimuth" if quantity.circular else "Zenith"
        texts = [element.findtext(f"{kind.upper()}_ANGLE", "") for element in found.get(means, [])]
        values = _finite(texts, quantity, day, path)
        if not values:
            lines = [line.text or "" for grid in found.get(grids, []) for line in grid.iterfind(f"{kind}/*/VALUES")]
            values = _finite((word for line in lines for word in line.split()), quantity, day, path)
        degrees.append(mean(quantity, values))
    return Record(day, orbit, tuple(degrees))


def _finite(texts: Iterable[str], quantity: Quantity, day: date, path: Path) -> list[float]:
    """The numbers among ``texts``, without NaN, checked."""
    numbers = (_number(text, f"{path}: {quantity.name}", day, comma=False) for text in texts)
    return [checked(quantity, number, day, f"{path}") for number in numbers if number is not None]
