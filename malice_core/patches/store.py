"""The format of a dataset of patches: a Zarr (version 3) group with one group for each place.

    DIR.zarr/zarr.json              attributes: format, patch, rule of the split, names of the places: the index
    DIR.zarr/PLACE/zarr.json        attributes: lattice, patches (where, split, hash), dates of either sensor
    DIR.zarr/PLACE/s2               int16 (N, T, 10, P, P), reflectance x 10000, 0 where not observed
    DIR.zarr/PLACE/s1               float32 (N, T, 2, P, P), linear gamma0 VV, VH, 0 where not observed
    DIR.zarr/PLACE/s2_mask, s1_mask uint8 (N, T, P, P): 0 not observed, 1 observed but cloud or shadow, 2 clear
    DIR.zarr/PLACE/s2_counts, …     int32 (N, T, 2): observed and clear pixels of every date

One file (a shard) holds a patch with all its dates, in chunks of 32 x 32 pixels and all dates: a random crop of 64
reads 9 of 16 chunks, and picking dates afterwards costs less than a chunk for each date (``benchmarks/loading.py``).
A place that the index does not name does not exist.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core import bands, scratch
from malice_core.bands import S1, S2, Sensor
from malice_core.errors import InputError
from malice_core.grid import Lattice
from malice_core.patches.splits import SPLITS, Rule

FORMAT = 1
#: The attribute of the root group that makes a Zarr group a dataset of ours.
INDEX = "malice_dataset"
#: And of the group of a place.
PLACE = "malice_place"
#: Sensors of a dataset, in the order of their bytes in a patch's hash.
SENSORS = (S2, S1)
#: Whole numbers are what Sentinel-2 products hold; what resampling puts between them is rounded: 1e-4 of reflectance.
DTYPES: dict[str, np.dtype[Any]] = {"s2": np.dtype("<i2"), "s1": np.dtype("<f4")}
#: Side of a chunk in pixels, where it divides the patch.
CHUNK = 32
MISSING, CLOUDY, CLEAR = 0, 1, 2


def zarr() -> Any:
    """The package, imported when it is needed.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import zarr as package
    except ImportError as error:
        raise InputError("datasets need the package zarr: pip install 'malice-core[train]'") from error
    return package


@dataclass(frozen=True)
class Patch:
    """One patch of a place.

    Attributes:
        row, col: its upper left pixel, global indices on the place's lattice.
        split: ``train``, ``val`` or ``test``; empty: left out, because too little was observed.
        sha256: of its values and masks; empty if left out.
    """

    row: int
    col: int
    split: str
    sha256: str


@dataclass(frozen=True)
class Series:
    """The dates of one sensor at a place, oldest first: days since ``bands.DATE_ORIGIN``, relative orbits."""

    days: tuple[int, ...]
    orbits: tuple[int | None, ...]


@dataclass(frozen=True)
class Place:
    """One stack in the dataset.

    Attributes:
        name: of its group.
        lattice: grid of its patches.
        patches: in the order of the arrays' first axis.
        series: by sensor key.
        content: everything that its group says of it.
    """

    name: str
    lattice: Lattice
    patches: tuple[Patch, ...]
    series: dict[str, Series]
    content: dict[str, Any]

    @classmethod
    def stored(cls, name: str, content: dict[str, Any]) -> Place:
        """From the attributes of a group."""
        series = {
            key: Series(tuple(one["days"]), tuple(one["orbits"])) for key, one in sorted(content["sensors"].items())
        }
        patches = tuple(Patch(one["row"], one["col"], one["split"], one["sha256"]) for one in content["patches"])
        return cls(name, Lattice(**content["lattice"]), patches, series, content)


class Dataset:
    """A dataset of patches, open for reading. Threads and forked processes may read at the same time.

    Args:
        folder: ``DIR.zarr``.

    Raises:
        InputError: if there is none, it is unfinished, of another version, or its descriptions are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = read_index(folder)
        try:
            self.patch = int(index["patch"])
            self.resolution = float(index["resolution"])
            self.rule = Rule.stored(index["rule"])
            self.places = tuple(Place.stored(name, place_of(folder / name)) for name in sorted(index["places"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder}: its description is damaged ({error!r}); build it again") from error

    @cached_property
    def hash(self) -> str:
        """Identity of the data: equal for equal patches, dates and splits, however they were built or compressed."""
        content = {
            "format": FORMAT,
            "patch": self.patch,
            "bands": {sensor.key: sensor.bands for sensor in SENSORS},
            "places": [
                {key: place.content[key] for key in ("lattice", "patches", "sensors")} | {"name": place.name}
                for place in self.places
            ],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def of_split(self, split: str) -> list[tuple[int, int]]:
        """(place, patch) of all patches of a split, in a fixed order."""
        return [
            (i, n) for i, place in enumerate(self.places) for n, one in enumerate(place.patches) if one.split == split
        ]

    def require(self, split: str) -> None:
        """Raises:
        InputError: if the split has no patch.
        """
        if not self.of_split(split):
            counts = ", ".join(f"{name} {len(self.of_split(name))}" for name in SPLITS)
            raise InputError(
                f"{self.folder} has no patch for {split} ({counts}): append stacks, or build it with a smaller --patch "
                "or another --split"
            )

    def array(self, place: int, name: str) -> Any:
        """The Zarr array of a place, see the module's text.

        Raises:
            InputError: if it is missing, damaged, or of another shape or type than the description says.
        """
        key = (place, name)
        if key not in self._arrays:
            self._arrays[key] = self._open(self.places[place], name)
        return self._arrays[key]

    @cached_property
    def _arrays(self) -> dict[tuple[int, str], Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # Open arrays stay in the process that opened them.
        return {key: value for key, value in vars(self).items() if key != "_arrays"}

    def _open(self, place: Place, name: str) -> Any:
        path = self.folder / place.name / name
        try:
            array = zarr().open_array(path, mode="r")
        except InputError:
            raise
        except Exception as error:  # zarr raises many kinds for a file that is damaged
            raise InputError(f"{path}: cannot be opened ({error}); build the dataset again") from error
        sensor = bands.SENSORS[name.partition("_")[0]]
        shape, dtype = _shape(sensor, name, len(place.patches), len(place.series[sensor.key].days), self.patch)
        if array.shape != shape or array.dtype != dtype:
            raise InputError(
                f"{path}: is {array.dtype} {array.shape} where {dtype} {shape} is described; build the dataset again"
            )
        return array

    def read(self, place: int, patch: int, name: str, crop: tuple[int, int, int] | None = None) -> NDArray[Any]:
        """One patch of an array, all dates.

        Args:
            name: ``s2``, ``s1``, ``s2_mask`` or ``s1_mask``.
            crop: (row, column, side) in the patch; None: all of it.

        Returns:
            (T, bands, H, W), or (T, H, W) of a mask.

        Raises:
            InputError: if it cannot be read.
        """
        array = self.array(place, name)
        row, col, side = crop or (0, 0, self.patch)
        # To Zarr a file that is missing is a patch of zeros.
        if not (file := self.file(place, patch, name)).exists():
            raise InputError(f"{file} is missing: copy the dataset again, or build it again")
        try:
            values: NDArray[Any] = array[patch, ..., row : row + side, col : col + side]
        except Exception as error:  # a damaged chunk ends in whatever its codec raises
            raise InputError(
                f"{self.folder / self.places[place].name / name}: patch {patch} is damaged ({error}); build the "
                "dataset again"
            ) from error
        return values

    def file(self, place: int, patch: int, name: str) -> Path:
        """The file that holds one patch of an array."""
        axes = 3 if name.endswith("_mask") else 4
        return self.folder.joinpath(self.places[place].name, name, "c", str(patch), *["0"] * axes)

    def digest(self, place: int, patch: int) -> str:
        """SHA-256 of what is stored of a patch, as :func:`digest`."""
        return digest({name: self.read(place, patch, name) for name in names()})


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a dataset.

    Raises:
        InputError: if the folder holds none, or one of another version.
    """
    if not folder.is_dir():
        unfinished = scratch.folder_of(folder).exists()
        cure = "its build was not finished, run it again with --resume" if unfinished else "dataset build makes one"
        raise InputError(f"{folder}: there is no such dataset; {cure}")
    index = _attributes(folder).get(INDEX)
    if not isinstance(index, dict):
        raise InputError(f"{folder} is no dataset of malice_core.dataset: give the folder that build wrote")
    if index.get("format") != FORMAT:
        raise InputError(
            f"{folder} is in version {index.get('format')} of the format, this program reads {FORMAT}: build it again"
        )
    return index


def place_of(group: Path) -> dict[str, Any]:
    """What the group of a place says of it.

    Raises:
        InputError: if there is none.
        KeyError: if it is no place.
    """
    content: dict[str, Any] = _attributes(group)[PLACE]
    return content


def is_ours(folder: Path) -> bool:
    """True if a folder holds a dataset of ours, of whatever version and in whatever state."""
    return INDEX in _attributes(folder)


def _attributes(group: Path) -> dict[str, Any]:
    # Descriptions are read without zarr: JSON is enough, and a damaged one gets our own message.
    try:
        content = json.loads((group / "zarr.json").read_text(encoding="utf-8"))
        attributes = content["attributes"] if content["node_type"] == "group" else None
    except FileNotFoundError as error:
        raise InputError(f"{group}: no zarr.json: it is no dataset, or part of it is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{group / 'zarr.json'} cannot be read ({error}); build the dataset again") from error
    return attributes if isinstance(attributes, dict) else {}


def names() -> tuple[str, ...]:
    """The arrays of a patch's values and masks, in the order of its hash."""
    return tuple(name for sensor in SENSORS for name in (sensor.key, f"{sensor.key}_mask"))


def digest(arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256 of one patch: its arrays by name, all dates."""
    total = hashlib.sha256()
    for name in names():
        total.update(np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()


def _shape(sensor: Sensor, name: str, patches: int, dates: int, patch: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    kind = name.removeprefix(sensor.key)
    if kind == "_counts":
        return (patches, dates, 2), np.dtype("<i4")
    if kind == "_mask":
        return (patches, dates, patch, patch), np.dtype("u1")
    return (patches, dates, len(sensor.bands), patch, patch), DTYPES[sensor.key]


def create_arrays(place: Path, patches: int, dates: dict[str, int], patch: int) -> dict[str, Any]:
    """Makes the arrays of a place, or opens those that are there.

    Args:
        place: folder of its group.
        dates: number by sensor key.

    Returns:
        Zarr arrays by name, without the counts.
    """
    package = zarr()
    from zarr.codecs import BloscCodec

    made = {}
    for name in names():
        sensor = bands.SENSORS[name.partition("_")[0]]
        shape, dtype = _shape(sensor, name, patches, dates[sensor.key], patch)
        side = CHUNK if patch % CHUNK == 0 else patch
        if (place / name / "zarr.json").exists():
            made[name] = package.open_array(place / name, mode="r+")
            continue
        made[name] = package.create_array(
            place / name,
            shape=shape,
            dtype=dtype,
            chunks=(1, *shape[1:-2], side, side),
            shards=(1, *shape[1:]),
            # Measured: zstd of level 3 reads twice as fast as levels above and is within 6 % of their size.
            compressors=BloscCodec(typesize=dtype.itemsize, cname="zstd", clevel=3, shuffle="shuffle"),
            fill_value=0,
            config={"write_empty_chunks": True},
        )
    return made


def write_counts(place: Path, key: str, counts: NDArray[np.int32]) -> None:
    """Writes the observed and clear pixels of every patch and date of a sensor: (N, T, 2)."""
    array = zarr().create_array(
        place / f"{key}_counts", shape=counts.shape, dtype=counts.dtype, chunks=counts.shape, overwrite=True
    )
    array[...] = counts


def group_text(key: str, content: dict[str, Any]) -> bytes:
    """The ``zarr.json`` of a group with one attribute."""
    group = {"zarr_format": 3, "node_type": "group", "attributes": {key: content}}
    return json.dumps(group, indent=1, sort_keys=True).encode()
