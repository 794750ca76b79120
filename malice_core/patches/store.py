"""The format of a dataset of patches: a Zarr (version 3) group with one group for each place.

    DIR.zarr/zarr.json              attributes: format, patch, rule of the split, names of the places: the index
    DIR.zarr/PLACE/zarr.json        attributes: lattice, patches (where, split, hash), dates of either sensor
    DIR.zarr/PLACE/s2               int16 (N, T, 10, P, P), reflectance x 10000, 0 where not observed
    DIR.zarr/PLACE/s1               float32 (N, T, 2, P, P), linear gamma0 VV, VH, 0 where not observed
    DIR.zarr/PLACE/s2_mask, s1_mask uint8 (N, T, P, P): 0 not observed, 1 observed but cloud or shadow, 2 clear
    DIR.zarr/PLACE/s2_counts, …     int32 (N, T, 2): observed and clear pixels of every date

and, where it was built for MALICE Aux, as physical values:

    DIR.zarr/PLACE/s2_weather, …    float32 (N, T, 48), as of ``surroundings.weather``, mean over the patch
    DIR.zarr/PLACE/terrain          float32 (N, 4, P, P), as of ``surroundings.terrain``
    DIR.zarr/PLACE/zarr.json        attributes: also the angles of every date, as of ``surroundings.angles``

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
from malice_core.bands import S1, S2
from malice_core.errors import InputError
from malice_core.grid import Lattice
from malice_core.patches.splits import SPLITS, Rule
from malice_core.store.statistics import AUX_TERRAIN, S1_ANGLES, S2_ANGLES

#: Version of datasets without and with weather, terrain and angles: all places have them, or none.
FORMAT, AUXILIARY_FORMAT = 1, 2
#: The attribute of the root group that makes a Zarr group a dataset of ours.
INDEX = "malice_dataset"
#: And of the group of a place.
PLACE = "malice_place"
#: Sensors of a dataset, in the order of their bytes in a patch's hash.
SENSORS = (S2, S1)
#: Whole numbers are what Sentinel-2 products hold; what resampling puts between them is rounded: 1e-4 of reflectance.
DTYPES: dict[str, np.dtype[Any]] = {"s2": np.dtype("<i2"), "s1": np.dtype("<f4")}
#: Cosines and sines of a date's angles.
CHANNELS = {"s2": S2_ANGLES, "s1": S1_ANGLES}
#: Side of a chunk in pixels, where it divides the patch.
CHUNK = 32
#: Numbers of weather a date, and channels of the terrain.
WEATHER, TERRAIN = 48, len(AUX_TERRAIN.channels)
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
    """The dates of one sensor at a place, oldest first: days since ``bands.DATE_ORIGIN``, relative orbits, and, for
    MALICE Aux, the cosines and sines of their angles."""

    days: tuple[int, ...]
    orbits: tuple[int | None, ...]
    angles: tuple[tuple[float, ...], ...] | None = None

    @classmethod
    def stored(cls, sensor: str, content: dict[str, Any]) -> Series:
        """From the attributes of a group. Raises ValueError if the angles are not one row a date."""
        rows = content.get("angles")
        angles = None if rows is None else tuple(tuple(map(float, row)) for row in rows)
        if angles is not None:
            wanted = [len(CHANNELS[sensor])] * len(content["days"])
            if [len(row) for row in angles] != wanted or any(not abs(x) <= 1 for row in angles for x in row):
                raise ValueError(f"angles of {sensor} are no {len(CHANNELS[sensor])} cosines and sines a date")
        return cls(tuple(content["days"]), tuple(content["orbits"]), angles)


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
        series = {key: Series.stored(key, one) for key, one in sorted(content["sensors"].items())}
        patches = tuple(Patch(one["row"], one["col"], one["split"], one["sha256"]) for one in content["patches"])
        return cls(name, Lattice(**content["lattice"]), patches, series, content)


class Dataset:
    """A dataset of patches, open for reading. Threads and forked processes may read at the same time.

    Attributes:
        auxiliary: whether it holds weather, terrain and angles, for MALICE Aux.

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
            self.auxiliary = index["format"] == AUXILIARY_FORMAT
            self.places = tuple(Place.stored(name, place_of(folder / name)) for name in sorted(index["places"]))
            for place in self.places:
                if any((one.angles is not None) != self.auxiliary for one in place.series.values()):
                    raise ValueError(f"not all places have angles, or none: {place.name}")
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
        dates = {key: len(one.days) for key, one in place.series.items()}
        shape, dtype = _layout(name, len(place.patches), dates, self.patch)
        if array.shape != shape or array.dtype != dtype:
            raise InputError(
                f"{path}: is {array.dtype} {array.shape} where {dtype} {shape} is described; build the dataset again"
            )
        return array

    def read(self, place: int, patch: int, name: str, crop: tuple[int, int, int] | None = None) -> NDArray[Any]:
        """One patch of an array, all dates.

        Args:
            name: one of :func:`names`.
            crop: (row, column, side) in the patch; None: all of it. Weather is of the whole patch.

        Returns:
            (T, bands, H, W); (T, H, W) of a mask, (T, 48) of weather, (4, H, W) of the terrain.

        Raises:
            InputError: if it cannot be read.
        """
        array = self.array(place, name)
        row, col, side = crop or (0, 0, self.patch)
        # To Zarr a file that is missing is a patch of zeros.
        if not (file := self.file(place, patch, name)).exists():
            raise InputError(f"{file} is missing: copy the dataset again, or build it again")
        try:
            pixels = () if name.endswith("_weather") else (..., slice(row, row + side), slice(col, col + side))
            values: NDArray[Any] = array[(patch, *pixels)]
        except Exception as error:  # a damaged chunk ends in whatever its codec raises
            raise InputError(
                f"{self.folder / self.places[place].name / name}: patch {patch} is damaged ({error}); build the "
                "dataset again"
            ) from error
        return values

    def file(self, place: int, patch: int, name: str) -> Path:
        """The file that holds one patch of an array."""
        axes = len(_layout(name, 0, {sensor.key: 0 for sensor in SENSORS}, 0)[0]) - 1
        return self.folder.joinpath(self.places[place].name, name, "c", str(patch), *["0"] * axes)

    def digest(self, place: int, patch: int) -> str:
        """SHA-256 of what is stored of a patch, as :func:`digest`."""
        return digest({name: self.read(place, patch, name) for name in names(self.auxiliary)})


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
    if index.get("format") not in (FORMAT, AUXILIARY_FORMAT):
        raise InputError(
            f"{folder} is in version {index.get('format')} of the format, this program reads {FORMAT} and "
            f"{AUXILIARY_FORMAT}: build it again"
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


def names(auxiliary: bool) -> tuple[str, ...]:
    """The arrays of a patch, but for the counts, in the order of its hash; ``auxiliary``: with what MALICE Aux gets."""
    images = tuple(name for sensor in SENSORS for name in (sensor.key, f"{sensor.key}_mask"))
    return (*images, *(f"{sensor.key}_weather" for sensor in SENSORS), "terrain") if auxiliary else images


def digest(arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256 of one patch: its arrays by name, all dates."""
    total = hashlib.sha256()
    for name in names("terrain" in arrays):
        total.update(np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()


def _layout(name: str, patches: int, dates: dict[str, int], patch: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array; ``dates``: their number by sensor key."""
    if name == "terrain":
        return (patches, TERRAIN, patch, patch), np.dtype("<f4")
    key, _, kind = name.partition("_")
    count = dates[key]
    if kind == "counts":
        return (patches, count, 2), np.dtype("<i4")
    if kind == "mask":
        return (patches, count, patch, patch), np.dtype("u1")
    if kind == "weather":
        return (patches, count, WEATHER), np.dtype("<f4")
    return (patches, count, len(bands.SENSORS[key].bands), patch, patch), DTYPES[key]


def create_arrays(place: Path, patches: int, dates: dict[str, int], patch: int, auxiliary: bool) -> dict[str, Any]:
    """Makes the arrays of a place, or opens those that are there.

    Args:
        place: folder of its group.
        dates: number by sensor key.
        auxiliary: with what MALICE Aux gets.

    Returns:
        Zarr arrays by name, without the counts.
    """
    package = zarr()
    from zarr.codecs import BloscCodec

    made = {}
    for name in names(auxiliary):
        shape, dtype = _layout(name, patches, dates, patch)
        side = CHUNK if patch % CHUNK == 0 else patch
        inner = shape[1:] if name.endswith("_weather") else (*shape[1:-2], side, side)
        if (place / name / "zarr.json").exists():
            made[name] = package.open_array(place / name, mode="r+")
            continue
        made[name] = package.create_array(
            place / name,
            shape=shape,
            dtype=dtype,
            chunks=(1, *inner),
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
