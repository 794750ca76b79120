"""When an image was taken, from where, and by which processor: names, tags and time axes.

The rules, first match wins: a time axis; Sentinel, OPERA, THEIA and HLS product names; YYYYMMDD or YYYY-MM-DD;
YYYYDDD; tags. Dates are UTC days.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from malice_core.errors import StackError

#: Years a date in a name can plausibly have: Sentinel-1A was launched in 2014.
FIRST_YEAR, LAST_YEAR = 2014, 2100

#: Absolute to relative orbit of Sentinel-1: (absolute - offset) mod 175 + 1.
S1_ORBIT_OFFSETS = {"S1A": 73, "S1B": 27, "S1C": 172}


@dataclass(frozen=True)
class Acquisition:
    """What a name or the tags tell about an image; ``None`` or "" where they do not.

    Attributes:
        date: day of sensing, UTC.
        rule: how the date was found, for the plan.
        product: what files of one image share (mission, time, tile …), without band and processing date.
        sensor: ``s1`` or ``s2``.
        orbit: relative orbit, 1 … 175.
        baseline: processing baseline or version times 100 (ESA N0400 is 400, THEIA V2-2 is 202).
        direction: ``ascending`` or ``descending``.
        maker: ``esa``, ``theia``, ``hls`` …: who numbers the pixels, which decides the S2 offset.
        add_offsets: what tags say is to be added to S2 DN (BOA_ADD_OFFSET…), each value once; None without such tags.
    """

    date: date | None = None
    rule: str = ""
    product: str = ""
    sensor: str = ""
    orbit: int | None = None
    baseline: int | None = None
    direction: str = ""
    maker: str = ""
    add_offsets: tuple[float, ...] | None = None

    def filled_by(self, other: Acquisition) -> Acquisition:
        """This one, with what it lacks taken from ``other``."""
        missing = {name: getattr(other, name) for name, value in vars(self).items() if value in (None, "")}
        return replace(self, **missing)


def relative_orbit(platform: str, absolute: int) -> int | None:
    """Relative orbit of Sentinel-1 ``platform`` (``S1A``) for an absolute orbit; None if unknown."""
    offset = S1_ORBIT_OFFSETS.get(platform.upper())
    return None if offset is None else (absolute - offset) % 175 + 1


def _day(text: str) -> date | None:
    """A date of 8 digits (YYYYMMDD) or 7 (YYYYDDD), None if there is no such day."""
    try:
        found = datetime.strptime(text, "%Y%m%d" if len(text) == 8 else "%Y%j").date()
    except ValueError:
        return None
    return found if FIRST_YEAR <= found.year <= LAST_YEAR else None


def _esa_s2(m: re.Match[str]) -> Acquisition:
    baseline = int(m["baseline"])
    return Acquisition(
        product=f"{m['tile'].upper()}_{m['day']}T{m['time']}",  # as the granule's files are called
        sensor="s2",
        orbit=int(m["orbit"]),
        baseline=None if baseline == 9999 else baseline,  # 9999: processed by a user
        maker="esa",
    )


def _esa_s1(m: re.Match[str]) -> Acquisition:
    platform = m["platform"].upper()
    return Acquisition(
        product=f"{platform}_{m['day']}T{m['time']}",
        sensor="s1",
        orbit=relative_orbit(platform, int(m["absolute"])),
        maker="esa",
    )


def _s1_time(m: re.Match[str]) -> Acquisition:
    return Acquisition(product=f"{m['platform'].upper()}_{m['day']}T{m['time']}", sensor="s1")


def _s1_tile(m: re.Match[str]) -> Acquisition:
    direction = {"ASC": "ascending", "DES": "descending"}[m["direction"].upper()]
    platform, tile = m["platform"].upper(), m["tile"].upper()
    product = f"{platform}_{tile}_{m['day']}"
    return Acquisition(product=product, sensor="s1", orbit=int(m["orbit"]), direction=direction, maker="s1tiling")


def _opera(m: re.Match[str]) -> Acquisition:
    return Acquisition(product=m["head"], sensor="s1", orbit=int(m["orbit"]), maker="opera")


def _granule(m: re.Match[str]) -> Acquisition:
    return Acquisition(product=f"{m['tile'].upper()}_{m['day']}T{m['time']}", sensor="s2", maker="esa")


def _earth_engine(m: re.Match[str]) -> Acquisition:
    return Acquisition(product=m[0], sensor="s2", maker="earth engine")


def _version(m: re.Match[str]) -> int | None:
    return int(m["major"]) * 100 + int(m["minor"]) if m["major"] else None


def _theia(m: re.Match[str]) -> Acquisition:
    return Acquisition(product=m["image"], sensor="s2", baseline=_version(m), maker="theia")


def _hls(m: re.Match[str]) -> Acquisition:
    return Acquisition(product=m["image"], sensor="s2", baseline=_version(m), maker="hls")


#: (rule for people, pattern with the day of sensing as group ``day``, what else it says)
PRODUCTS: tuple[tuple[str, re.Pattern[str], Callable[[re.Match[str]], Acquisition]], ...] = tuple(
    (rule, re.compile(pattern, re.IGNORECASE), reader)
    for rule, pattern, reader in (
        (
            "Sentinel-2 product names (sensing date)",
            r"(?P<platform>S2[A-D])_MSIL\d[A-C]_(?P<day>\d{8})T(?P<time>\d{6})_N(?P<baseline>\d{4})_R(?P<orbit>\d{3})"
            r"_(?P<tile>T\d{2}[A-Z]{3})",
            _esa_s2,
        ),
        (
            "Sentinel-1 product names (start of sensing)",
            r"(?P<platform>S1[A-D])_\w{2}_(?:GRD|SLC)[A-Z_]?_\d\w{3}_(?P<day>\d{8})T(?P<time>\d{6})_\d{8}T\d{6}"
            r"_(?P<absolute>\d{6})",
            _esa_s1,
        ),
        (
            "Sentinel-1 product names (start of sensing)",
            r"(?P<platform>S1[A-D])-\w{2}-(?:grd|slc)-\w{2}-(?P<day>\d{8})t(?P<time>\d{6})-\d{8}t\d{6}-(?P<absolute>\d{6})",
            _esa_s1,
        ),
        (
            "OPERA product names (start of sensing)",
            r"(?P<head>OPERA_L2_RTC-S1_T(?P<orbit>\d{3})-\d+-\w{3}_(?P<day>\d{8})T\d{6}Z)",
            _opera,
        ),
        (
            "S1Tiling names",
            r"(?P<platform>S1[A-D])_(?P<tile>\d{2}[A-Z]{3})_(?:VV|VH|HH|HV)_(?P<direction>ASC|DES)_(?P<orbit>\d{3})"
            r"_(?P<day>\d{8})T[\dx]{6}",
            _s1_tile,
        ),
        ("Sentinel-1 names", r"(?P<platform>S1[A-D])_\w{2}_(?:\w+_)?(?P<day>\d{8})T(?P<time>\d{6})", _s1_time),
        (
            "THEIA product names",
            r"(?P<image>SENTINEL2[A-DX]_(?P<day>\d{8})-\d{6}-\d{3}_L[23]A_T\w{5})(?:_[A-Z]_V(?P<major>\d+)-(?P<minor>\d+))?",
            _theia,
        ),
        (
            "HLS product names",
            r"(?P<image>HLS\.[SL]30\.T\w{5}\.(?P<day>\d{7})T\d{6})(?:\.v(?P<major>\d+)\.(?P<minor>\d+))?",
            _hls,
        ),
        (
            "Earth Engine names (sensing date)",
            r"(?<!\d)(?P<day>\d{8})T\d{6}_\d{8}T\d{6}_T\d{2}[A-Z]{3}",
            _earth_engine,
        ),
        (
            "Sentinel-2 granule names",
            r"(?<![A-Z0-9])(?P<tile>T\d{2}[A-Z]{3})_(?P<day>\d{8})T(?P<time>\d{6})",
            _granule,
        ),
    )
)

_YMD = re.compile(r"(?<!\d)(20\d{2})(?:([-_.])(\d{2})\2(\d{2})|(\d{2})(\d{2})(?:\d{4}|\d{6})?)(?!\d)")
_YDDD = re.compile(r"(?<!\d)(20\d{5})(?!\d)")


def from_product(name: str) -> Acquisition | None:
    """What a Sentinel, OPERA, THEIA, HLS … product name says; None if ``name`` holds none.

    Args:
        name: one component of a path (a file or folder name).
    """
    for rule, pattern, reader in PRODUCTS:
        match = pattern.search(name)
        day = _day(match["day"]) if match else None
        if match and day:
            return replace(reader(match), date=day, rule=rule)
    return None


def from_name(name: str, source: str) -> Acquisition:
    """What a file or folder name says; ``date`` is None if it holds none.

    Args:
        name: one component of a path.
        source: the file, for messages.

    Raises:
        StackError: if an unknown name holds two different dates.
    """
    known = from_product(name)
    if known:
        return known
    for rule, pattern in (("YYYYMMDD or YYYY-MM-DD in the names", _YMD), ("YYYYDDD in the names", _YDDD)):
        texts = ["".join(part for part in m.groups() if part and part.isdigit()) for m in pattern.finditer(name)]
        days = sorted({day for day in map(_day, texts) if day})
        if len(days) > 1:
            raise StackError(
                f"{source}: two dates in the name '{name}': {days[0]} and {days[1]}; rename the file so that only "
                "the date of sensing is in its name"
            )
        if days:
            return Acquisition(days[0], rule)
    return Acquisition()


#: Tags that hold a date, most telling first, spelt as :func:`_plain` does.
_DATE_TAGS = (
    "acquisitionutc",
    "acquisitiondatetime",
    "acquisitiondate",
    "dateacquired",
    "sensingtime",
    "datatakesensingstart",
    "datatake1datatakesensingstart",
    "productstarttime",
    "starttime",
    "timecoveragestart",
    "datetime",
    "date",
    "tifftagdatetime",
)
_TAG_DATE = re.compile(r"(20\d{2})[-:/]?(\d{2})[-:/]?(\d{2})")
_PRODUCT_TAGS = ("producturi", "productid", "productname", "scenename", "systemindex", "title")


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.rsplit("#", 1)[-1].lower())


_ADD_OFFSET = re.compile(r"(boa|radio)addoffset")


def is_offset(key: str) -> bool:
    """True for tags such as ``BOA_ADD_OFFSET``, ``RADIO_ADD_OFFSET`` or ``BOA_ADD_OFFSET_B02``."""
    return _ADD_OFFSET.match(_plain(key)) is not None


def _add_offsets(plain: Mapping[str, str]) -> tuple[float, ...] | None:
    """Values of the offset tags, each once; those of L2A (BOA) before those of L1C (RADIO)."""
    for kind in ("boa", "radio"):
        found = set()
        for key, text in plain.items():
            match = _ADD_OFFSET.match(key)
            if match and match[1] == kind:
                try:
                    found |= {float(part) for part in re.split(r"[\s,;{}\[\]]+", text) if part}
                except ValueError:
                    continue
        if found:
            # As a reflectance (-0.1) it says the same.
            return tuple(sorted({value * 10000 if abs(value) < 1 else value for value in found}))
    return None


def from_tags(tags: Mapping[str, str]) -> Acquisition:
    """What the tags of a raster say (keys in any spelling: ``RELATIVE_ORBIT``, ``sat:relative_orbit`` …)."""
    plain = {_plain(key): str(value).strip() for key, value in tags.items()}
    found = Acquisition(add_offsets=_add_offsets(plain))
    for key in _PRODUCT_TAGS:
        known = from_product(plain.get(key, ""))
        if known:
            found = found.filled_by(replace(known, rule="tags"))
    for key in _DATE_TAGS:
        match = _TAG_DATE.search(plain.get(key, ""))
        day = _day("".join(match.groups())) if match else None
        if day and found.date is None:
            found = replace(found, date=day, rule="tags")
    for key, value in plain.items():
        number = re.fullmatch(r"[RT]?0*(\d{1,3})(?:\.0*)?", value)
        if "relativeorbit" in key or key == "sensingorbitnumber":
            if number and 1 <= int(number[1]) <= 175 and found.orbit is None:
                found = replace(found, orbit=int(number[1]))
        elif "processingbaseline" in key:
            digits = re.fullmatch(r"N?(\d{1,2})\.?(\d{2})", value)
            if digits and value.strip("N0.") != "9999" and found.baseline is None:
                found = replace(found, baseline=int(digits[1]) * 100 + int(digits[2]))
        elif "orbitdirection" in key or key.endswith("pass") or key in ("satorbitstate", "passdirection"):
            word = value.lower()[:4]
            if word in ("asce", "desc") and not found.direction:
                found = replace(found, direction="ascending" if word == "asce" else "descending")
    return found


_STEPS = {
    "day": 86400.0,
    "hour": 3600.0,
    "hr": 3600.0,
    "h": 3600.0,
    "d": 86400.0,
    "minute": 60.0,
    "min": 60.0,
    "second": 1.0,
    "sec": 1.0,
    "s": 1.0,
    "millisecond": 1e-3,
    "ms": 1e-3,
    "microsecond": 1e-6,
    "us": 1e-6,
    "nanosecond": 1e-9,
    "ns": 1e-9,
}


def from_time_axis(values: Iterable[float], units: str, calendar: str, source: str) -> list[datetime]:
    """The times (UTC, without zone) of a CF time axis.

    Args:
        values: coordinates of the axis.
        units: such as ``days since 1990-01-01`` or ``seconds since 2017-08-01 17:32:36``.
        calendar: CF calendar; the standard ones only.
        source: the file, for messages.

    Raises:
        StackError: if the units or the calendar cannot be read or a time is out of range.
    """
    match = re.fullmatch(
        r"\s*(\w+?)s?\s+since\s+(\d{1,4})-(\d{1,2})-(\d{1,2})(?:[T ]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?)?"
        r"\s*(?:Z|UTC|[+-]00:?00)?\s*",
        units,
    )
    word = match[1].lower() if match else ""
    step = _STEPS.get(word, _STEPS.get(word + "s"))
    if match is None or step is None:
        raise StackError(f"{source}: the time axis has units '{units}', wanted such as 'days since 1990-01-01'")
    if calendar.lower() not in ("", "standard", "gregorian", "proleptic_gregorian"):
        raise StackError(f"{source}: the time axis uses the calendar '{calendar}'; convert it to the standard one")
    try:
        begin = datetime(*(int(part or 0) for part in match.groups()[1:]))  # type: ignore[arg-type]
        return [begin + timedelta(seconds=float(value) * step) for value in values]
    except (ValueError, OverflowError) as error:
        raise StackError(f"{source}: the time axis '{units}' holds an impossible time: {error}") from error
