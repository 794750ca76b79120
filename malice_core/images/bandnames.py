"""Which band of a sensor a description, a variable or a file name means."""

from __future__ import annotations

import re
from collections.abc import Sequence

from malice_core.bands import Sensor
from malice_core.images.anglenames import angle_of

#: Names of STAC's eo:common_name, and of habit.
_S2_WORDS = {
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "rededge071": "B05",
    "nir": "B08",
    "nirbroad": "B08",
    "nir08": "B8A",
    "nirnarrow": "B8A",
    "narrownir": "B8A",
    "swir1": "B11",
    "swir16": "B11",
    "swir2": "B12",
    "swir22": "B12",
}
_S2_CODE = re.compile(r"(?<![A-Za-z0-9])(?:B|BAND)[ _-]?0?(8A|1[0-2]|[1-9])(?![A-Za-z0-9])", re.IGNORECASE)
_S2_FILE = re.compile(r"(?<![A-Za-z0-9])B(08A|8A|0?[1-9]|1[0-2])(?![A-Za-z0-9])", re.IGNORECASE)
_S1_CODE = re.compile(r"(?<![A-Za-z])(VV|VH|HH|HV)(?![A-Za-z])", re.IGNORECASE)
_SCL_CODE = re.compile(r"(?<![A-Za-z0-9])(SCL|scene[ _-]?classification)(?![A-Za-z0-9])", re.IGNORECASE)
#: Layers delivered beside the bands that no sensor here reads.
_OTHER = re.compile(
    r"(?<![A-Za-z0-9])(AOT|WVP|TCI|PVI|QKL|ATB|CLM|CLD|SNW|MSK|MASK|FMASK|SZA|SAA|VZA|VAA|preview|thumbnail|"
    r"ANGLES?|LIA|INC_?MAP|LS_?MAP)(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def _spaced(text: str) -> str:
    # "_" counts as a letter in \w and keeps names apart in file names: make it a separator.
    return text.replace("_", " ")


def band_of(text: str | None, sensor: Sensor) -> str | None:
    """The band of ``sensor``'s mission a description or variable name means, None if it names none.

    Bands of the mission that the sensor does not use (B01, B09, HH …) are returned too: they say that the
    bands are named. ``VH/VV`` and other ratios are no band.
    """
    if not text:
        return None
    if sensor.angles:
        return angle_of(text, sensor.key[:2])
    text = _spaced(text)
    if sensor.key == "s2":
        codes = {match.upper() for match in _S2_CODE.findall(text)}
        if len(codes) == 1:
            code = codes.pop()
            return "B8A" if code == "8A" else f"B{int(code):02d}"
        return _S2_WORDS.get(re.sub(r"[^a-z0-9]", "", text.lower()))
    if sensor.key == "s1":
        codes = {match.upper() for match in _S1_CODE.findall(text)}
        return codes.pop() if len(codes) == 1 else None
    return "SCL" if _SCL_CODE.search(text) else None


def band_of_file(stem: str, sensor: Sensor) -> str | None:
    """The band a file name (without folder and extension) names, such as ``T31UDS_20180511T105031_B02_10m``."""
    if sensor.angles:
        return angle_of(stem, sensor.key[:2], part=True)
    text = _spaced(stem)
    if sensor.key == "s2":
        codes = {match.upper() for match in _S2_FILE.findall(text)}
        if len(codes) == 1:
            code = codes.pop()
            return "B8A" if code.endswith("8A") else f"B{int(code):02d}"
        return None
    return band_of(stem, sensor)


def without_band(stem: str, sensor: Sensor) -> str:
    """A file name with the band and the pixel size taken out: what the files of one image share."""
    if sensor.angles:
        # What is written out may name the angle: numbers (date, orbit) are what the files of one image share.
        return " ".join(re.findall(r"\d+", stem))
    text = _spaced(stem)
    pattern = {"s2": _S2_FILE, "s1": _S1_CODE}.get(sensor.key, _SCL_CODE)
    return re.sub(r"\s+", " ", re.sub(r"(?<!\d)[1246]0m(?![a-z])", "", pattern.sub("", text))).strip().lower()


def is_other(stem: str, sensor: Sensor) -> bool:
    """True if a file name says that the file is nothing ``sensor`` reads (a mask, a preview, another mission)."""
    text = _spaced(stem)
    if _OTHER.search(text) and not sensor.angles and not band_of_file(stem, sensor):
        return True
    if sensor.key == "scl":
        return _S2_FILE.search(text) is not None
    if _SCL_CODE.search(text):
        return True
    # THEIA ships flat (FRE) and raw (SRE) reflectance; FRE, corrected for slopes, is the one for land cover.
    if sensor.key == "s2" and re.search(r"(?<![A-Za-z])SRE(?![A-Za-z])", text):
        return True
    mission = re.match(r"(?:OPERA L2 RTC-)?S([12])[A-D]?(?![A-Za-z0-9])", text, re.IGNORECASE)
    if mission is None and re.match(r"HLS\.L30", text):
        return True
    return mission is not None and mission[1] != sensor.key[1]


def named(descriptions: Sequence[str | None], sensor: Sensor) -> list[str | None]:
    """:func:`band_of` for all bands of one raster; 'Band 1' … 'Band n' are numbers, not names."""
    numbers = [re.fullmatch(r"(?i)\s*band[ _-]?0?(\d+)\s*", text or "") for text in descriptions]
    if all(match and int(match[1]) == i for i, match in enumerate(numbers, 1)):
        return [None] * len(descriptions)
    return [band_of(text, sensor) for text in descriptions]
