"""An embedding that ``malice_core.embed`` wrote, whatever its format and number type: what it is, and its numbers.

GeoTIFF, cloud-optimised GeoTIFF and VRT are read by GDAL, Zarr stores by the package zarr, as no GDAL in use reads
shards (docs/outputs.md). ``decoding.py`` reads the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS

from malice_core import mosaic
from malice_core.analysis import decoding
from malice_core.analysis.decoding import opened
from malice_core.errors import InputError
from malice_core.evaluation.rasters import Place
from malice_core.grid import Window
from malice_core.product import band_names, is_store, scale_path

Floats = NDArray[np.float32]
#: Of a band: sensor where there are two, query, feature.
BAND = re.compile(r"(?:(S1|S2)_)?Q(\d{2,})F(\d{2,})")
#: What GDAL calls the types of stored numbers, by ``--dtype``: float16 is float32 of 16 bits, before GDAL 3.11.
STORED = {"float32": {"float32"}, "float16": {"float32", "float16"}, "int16": {"int16"}, "int8": {"uint8"}}


@dataclass(frozen=True)
class Kind:
    """What embeddings must share to be compared.

    Attributes:
        model, model_id: name for people, and identity of the model.
        sensors: modalities in the order of their bands.
        queries: in order.
        width: features a query.
    """

    model: str
    model_id: str
    sensors: tuple[str, ...]
    queries: tuple[int, ...]
    width: int

    @property
    def names(self) -> list[str]:
        """Of the bands."""
        return band_names(self.sensors, self.queries, self.width)

    @property
    def features(self) -> int:
        """Bands of all sensors."""
        return len(self.sensors) * len(self.queries) * self.width

    def require(self, other: Kind, this: str, that: str) -> None:
        """Raises:
        InputError: if ``other`` has numbers of another meaning; ``this`` and ``that`` name the two for people.
        """
        pairs = (
            (
                "model",
                self.model_id,
                other.model_id,
                f"{self.model} ({self.model_id})",
                f"{other.model} ({other.model_id})",
            ),
            ("sensors", self.sensors, other.sensors, self._sensors, other._sensors),
            ("queries", self.queries, other.queries, _listed(self.queries), _listed(other.queries)),
            ("features a query", self.width, other.width, f"{self.width}", f"{other.width}"),
        )
        for what, mine, others, text, other_text in pairs:
            if mine != others:
                raise InputError(
                    f"{this} is of {what} {text}, {that} of {other_text}: their numbers cannot be compared; use "
                    f"embeddings of the same {what}"
                )

    @property
    def _sensors(self) -> str:
        return "+".join(sensor.upper() for sensor in self.sensors)

    def tags(self) -> dict[str, str]:
        """As they stand in rasters."""
        return {
            "MALICE_MODEL": self.model,
            "MALICE_MODEL_ID": self.model_id,
            "MALICE_SENSORS": ",".join(self.sensors),
            "MALICE_QUERIES": _listed(self.queries),
        }

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "model": self.model,
            "model_id": self.model_id,
            "sensors": list(self.sensors),
            "queries": list(self.queries),
            "width": self.width,
        }

    @classmethod
    def read(cls, given: Any) -> Kind:
        """From :meth:`plain`.

        Raises:
            ValueError: if it is none.
        """
        match given:
            case {
                "model": str(model),
                "model_id": str(identity),
                "sensors": [*sensors],
                "queries": [*queries],
                "width": int(width),
            } if (
                sensors in (["s2"], ["s1"], ["s2", "s1"])
                and queries
                and all(type(query) is int and query >= 0 for query in queries)
                and width > 0
            ):
                return cls(model, identity, tuple(sensors), tuple(queries), width)
        raise ValueError("it does not say of which model, sensors and queries it is")


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


@dataclass(frozen=True)
class Pixels:
    """Numbers of some pixels.

    Attributes:
        values: (features, pixels), NaN where there is no data.
        there: (pixels,) True where every sensor has data.
    """

    values: Floats
    there: NDArray[np.bool_]

    @property
    def seen(self) -> Floats:
        """(features, pixels with data)"""
        return self.at(self.there)

    def at(self, mask: NDArray[np.bool_]) -> Floats:
        """(features, pixels of a mask)"""
        # Much faster than values[:, mask].
        return self.values if mask.all() else np.take(self.values, np.flatnonzero(mask), axis=1)

    def part(self, window: Window, inside: Window) -> Pixels:
        """Those of a window inside the ``window`` that these pixels are of."""
        if inside == window:
            return self
        rows, cols = inside.slices_in(window)
        values = self.values.reshape(-1, *window.shape)[:, rows, cols]
        there = self.there.reshape(window.shape)[rows, cols]
        return Pixels(values.reshape(len(values), -1), there.reshape(-1))


class Reader(Protocol):
    """Reads an open embedding; in one thread at a time."""

    def read(self, window: Window) -> Pixels:
        """Decoded numbers of a window, pixels row by row.

        Raises:
            InputError: if the file is damaged or gone.
        """


@dataclass(frozen=True)
class Embedding:
    """An embedding on disk, checked.

    Attributes:
        kind: model, sensors, queries.
        dtype: the type it is stored in, as of ``--dtype``.
        place: its grid; windows count from its first pixel.
        tags: of the raster.
        itemsize: bytes of a stored number.
    """

    path: Path
    kind: Kind
    dtype: str
    place: Place
    tags: Mapping[str, str] = field(repr=False)
    itemsize: int = 4

    @classmethod
    def open(cls, path: Path) -> Embedding:
        """Reads what an embedding says of itself.

        Raises:
            InputError: if it cannot be opened, or is none.
        """
        return _of_store(path) if is_store(path) else _of_raster(path)

    @property
    def area(self) -> Window:
        """All pixels."""
        return Window(0, 0, *self.place.shape)

    @property
    def dates(self) -> dict[str, list[date]]:
        """Dates of the images, by sensor; empty where the tags do not tell."""
        found = {}
        for sensor in self.kind.sensors:
            words = self.tags.get(f"MALICE_DATES_{sensor.upper()}", "").split(",")
            try:
                found[sensor] = [date.fromisoformat(word) for word in words if word]
            except ValueError:
                found[sensor] = []
        return found

    @property
    def files(self) -> list[Path]:
        """Files and folders the numbers are in."""
        found = [self.path]
        if self.path.suffix.lower() == ".vrt":
            found.append(mosaic.folder_of(self.path))
        if self.dtype == "int8" and not is_store(self.path):
            found.append(scale_path(self.path))
        return found

    def provenance(self, suffix: str = "") -> dict[str, str]:
        """Tags for what is made of this embedding: where it comes from, and whom to credit.

        Args:
            suffix: of their names, where a result has two sources.
        """
        kept = ("MALICE_JOB", "MALICE_CREDITS", "MALICE_CITATION", "MALICE_LICENCE")
        own = {key: text for key, text in self.tags.items() if key in kept or key.startswith("MALICE_DATES_")}
        own["MALICE_SOURCE_JOB"] = own.pop("MALICE_JOB", "")
        return {f"{key}{suffix}": text for key, text in {"MALICE_SOURCE": self.path.name, **own}.items() if text}

    def require_grid(self, other: Embedding) -> None:
        """Raises:
        InputError: if the other one is not on the same pixels.
        """
        if self.place.offset(other.place) != (0, 0) or self.place.shape != other.place.shape:
            raise InputError(
                f"{self.path} ({self.place.extent}) and {other.path} ({other.place.extent}) are not on the same "
                "pixels: embed both with the same --aoi"
            )

    @contextmanager
    def reader(self, threads: int = 1) -> Iterator[Reader]:
        """Opens the numbers.

        Args:
            threads: that unpack tiles.
        """
        if is_store(self.path):
            yield _Pixels(decoding.Store(self.path, self.dtype))
            return
        with ExitStack() as stack:
            file = stack.enter_context(opened(self.path, threads))
            scaled = self.dtype == "int8"
            scales = stack.enter_context(opened(scale_path(self.path), threads)) if scaled else None
            yield _Pixels(decoding.Raster(self.path, self.dtype, file, scales))


def _of_raster(path: Path) -> Embedding:
    if not path.exists():
        raise InputError(f"{path} is not there: give an embedding that malice_core.embed wrote")
    with opened(path) as file:
        tags = {key: f"{text}" for key, text in file.tags().items()}
        kind, dtype = _kind(path, tags, file.descriptions)
        if not set(file.dtypes) <= STORED[dtype]:
            raise InputError(
                f"{path} holds {', '.join(sorted(set(file.dtypes)))}, but its tag MALICE_DTYPE says {dtype}: give the "
                "file as malice_core.embed wrote it"
            )
        place = Place.of(path, file.crs, file.transform, file.shape)
        if dtype == "int16" and all(one == 1 for one in file.scales):
            raise InputError(f"{path} has lost its band scales (int16): give the file as malice_core.embed wrote it")
        found = Embedding(path, kind, dtype, place, tags, np.dtype(file.dtypes[0]).itemsize)
    if dtype == "int8":
        _require_scales(found)
    return found


def _require_scales(found: Embedding) -> None:
    path = scale_path(found.path)
    if not path.exists():
        raise InputError(f"{found.path} is of int8, and its scales, {path}, are not there: keep the two files together")
    with opened(path) as file:
        place = Place.of(path, file.crs, file.transform, file.shape)
        whole = file.count == len(found.kind.sensors) and place.shape == found.place.shape
        if (
            not whole
            or found.place.offset(place) != (0, 0)
            or file.tags().get("MALICE_JOB") != found.tags.get("MALICE_JOB")
        ):
            raise InputError(
                f"{path} holds the scales of another embedding than {found.path}: keep the two files together"
            )


def _of_store(path: Path) -> Embedding:
    group = decoding.group(path)
    attributes = {key: f"{text}" for key, text in dict(group.attrs).items()}
    try:
        kind, dtype = _kind(path, attributes, [f"{name}" for name in group["band"][...]])
        array, reference = group["embedding"], group["spatial_ref"].attrs
        crs = CRS.from_wkt(f"{reference['crs_wkt']}")
        transform = rasterio.Affine.from_gdal(*(float(word) for word in f"{reference['GeoTransform']}".split()))
        stored = {"int8": "uint8"}.get(dtype, dtype)
        if array.shape[0] != kind.features or array.dtype != np.dtype(stored):
            raise InputError(f"{path}: the array embedding is {array.dtype} of {array.shape[0]} bands, not {dtype}")
        for name in {"int8": ("scales",), "int16": ("scale", "offset")}.get(dtype, ()):
            group[name]
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot read {path}: {type(error).__name__} {error}; embed it again") from error
    return Embedding(
        path, kind, dtype, Place.of(path, crs, transform, array.shape[1:]), attributes, array.dtype.itemsize
    )


def _kind(path: Path, tags: Mapping[str, str], bands: Sequence[str | None]) -> tuple[Kind, str]:
    """Model, sensors and queries by tags and band names; and the number type.

    Raises:
        InputError: if it is no embedding, or not all of one.
    """
    identity, dtype = tags.get("MALICE_MODEL_ID"), tags.get("MALICE_DTYPE")
    if (tool := tags.get("MALICE_TOOL")) is not None:
        raise InputError(f"{path} is a result of malice_core.{tool}, not an embedding: give the embedding itself")
    if identity is None or dtype not in STORED:
        raise InputError(
            f"{path} is no embedding (it has no tags MALICE_MODEL_ID and MALICE_DTYPE): give a raster that "
            "malice_core.embed wrote"
        )
    parts = [BAND.fullmatch(name or "") for name in bands]
    if not all(parts):
        raise InputError(f"{path} has bands such as {bands[0]!r:.40}, an embedding's are named Q00F00 …: give that")
    found = [(part[1], int(part[2]), int(part[3])) for part in parts if part]
    prefixes = list(dict.fromkeys(sensor for sensor, _, _ in found))
    if prefixes == [None]:
        sensors = tuple(sensor for sensor in ("s2", "s1") if f"MALICE_DATES_{sensor.upper()}" in tags)
    else:
        sensors = tuple(f"{sensor}".lower() for sensor in prefixes)
    queries = tuple(dict.fromkeys(query for _, query, _ in found))
    width = len({feature for _, _, feature in found})
    kind = Kind(tags.get("MALICE_MODEL", "?"), identity, sensors, queries, width)
    if len(sensors) != len(prefixes) or kind.names != list(bands):
        raise InputError(f"{path} has only some bands of an embedding, {len(bands)}: give the whole one")
    return kind, dtype


@dataclass(frozen=True)
class _Pixels:
    """A :class:`Reader` of stored numbers."""

    stored: decoding.Stored

    def read(self, window: Window) -> Pixels:
        return Pixels(*self.stored.read(window))
