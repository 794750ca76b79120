"""Which images carry the day they were taken, by the engine's own rules, and which day a layer's temporal range gives.

The engine finds dates itself (``malice_core.images.dates``). Here it is only asked whether it will, so that the day
of a layer's temporal range is handed on where nothing else tells; a test compares both.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from qgis.core import Qgis, QgsRasterLayer, QgsRasterLayerTemporalProperties

from .texts import tr

#: Days of sensing in names; groups are year, month and day, or year and day of year.
_DATE = re.compile(r"(?<!\d)(20\d{2})([-_.]?)(\d{2})\2(\d{2})(?:T?\d{4,6})?(?!\d)")
_DAY_OF_YEAR = re.compile(r"(?<!\d)(20\d{2})(\d{3})(?!\d)")
#: Names of products, of files or folders, whose dates hold for all files in them.
_PRODUCT = re.compile(r"\d{8}T\d{6}|SENTINEL2[A-DX]_\d{8}-|HLS\.[SL]30\.T\w{5}\.\d{7}T", re.IGNORECASE)
#: Tags that hold a date, and tags that hold the name of a product, in letters and digits only.
_DATE_TAGS = (
    *("acquisitionutc", "acquisitiondatetime", "acquisitiondate", "dateacquired", "sensingtime", "starttime"),
    *("datatakesensingstart", "datatake1datatakesensingstart", "productstarttime", "timecoveragestart"),
    *("datetime", "date", "tifftagdatetime"),
)
_PRODUCT_TAGS = ["producturi", "productid", "productname", "scenename", "systemindex", "title"]
_TAG_DATE = re.compile(r"(20\d{2})[-:/]?(\d{2})[-:/]?(\d{2})")
FIRST_YEAR = 2014
DAY = 24 * 3600


class RangeError(Exception):
    """A temporal range that gives no day; the text says what to do."""


def days_in(text: str) -> list[date]:
    """The dates in a name, in order, each once."""
    found = {_day(int(m[1]), int(m[3]), int(m[4])) for m in _DATE.finditer(text)}
    if not found - {None}:
        found = {_day_of_year(int(m[1]), int(m[2])) for m in _DAY_OF_YEAR.finditer(text)}
    return sorted(day for day in found if day is not None)


def is_product(name: str) -> bool:
    """True for the name of a product, which carries a date."""
    return _PRODUCT.search(name) is not None


def in_tags(tags: dict[str, str]) -> bool:
    """True if the tags of a raster tell a date."""
    plain = {re.sub(r"[^a-z0-9]", "", key.rsplit("#", 1)[-1].lower()): value for key, value in tags.items()}
    if any(is_product(plain.get(key, "")) for key in _PRODUCT_TAGS):
        return True
    matches = (_TAG_DATE.search(plain.get(key, "")) for key in _DATE_TAGS)
    return any(match and _day(*map(int, match.groups())) for match in matches)


def undated(text: str) -> str:
    """A name without its dates, never empty."""
    return _DAY_OF_YEAR.sub("", _DATE.sub("", text)).strip("_-. ") or "image"


def fixed_range() -> Any:
    """The mode of a fixed range: an enum of the class before QGIS 3.38, of ``Qgis`` since."""
    since_338 = getattr(Qgis, "RasterTemporalMode", None)
    return since_338.FixedTemporalRange if since_338 else QgsRasterLayerTemporalProperties.ModeFixedTemporalRange


def day_of_range(layer: QgsRasterLayer) -> date | None:
    """The day of a layer's fixed temporal range, as its properties show it; None if it has none.

    Raises:
        RangeError: if the range is open, longer than a day, or ends before it begins.
    """
    properties = layer.temporalProperties()
    if not properties.isActive() or properties.mode() != fixed_range():
        return None
    begin, end = properties.fixedTemporalRange().begin(), properties.fixedTemporalRange().end()
    if not begin.isValid() and not end.isValid():
        return None
    if not (begin.isValid() and end.isValid()) or not 0 <= begin.secsTo(end) <= DAY:
        shown = [moment.toString("yyyy-MM-dd") if moment.isValid() else "…" for moment in (begin, end)]
        raise RangeError(
            tr("Layer '{0}': its temporal range from {1} to {2} is no day; set the day of sensing.").format(
                layer.name(), *shown
            )
        )
    day = begin.date()
    return date(day.year(), day.month(), day.day())


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day) if year >= FIRST_YEAR else None
    except ValueError:
        return None


def _day_of_year(year: int, number: int) -> date | None:
    if not 1 <= number <= 366 or year < FIRST_YEAR:
        return None
    return date.fromordinal(date(year, 1, 1).toordinal() + number - 1)
