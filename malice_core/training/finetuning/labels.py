"""Labels on the pixels of a grid, out of a raster or of polygons; and which classes they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from malice_core import vectors
from malice_core.classifier import MAX_CLASSES, Class, colour, one_line
from malice_core.errors import InputError
from malice_core.evaluation import rasters
from malice_core.grid import Lattice, Window

#: What messages call the file, its field and layer.
OPTIONS = vectors.Options("data.labels", "data.field=", "data.layer=")
#: A label that is none; no class has this number.
NONE = np.iinfo(np.int32).min
#: A pixel without a class to learn or to score, or without a label.
IGNORED = -1
Labels = NDArray[np.int32]
Index = NDArray[np.int16]
#: Different labels a file may have: their places are numbers of two bytes.
MAX_LABELS = 1 << 15
#: Pixels of a raster that are worked on at once.
STRIP = 1 << 20


@dataclass(frozen=True)
class Labelled:
    """Labels of an area; 2 bytes a pixel, 6 of polygons.

    Attributes:
        window: the area, global pixels.
        values: labels that occur, ascending, as they were given, or numbers for texts.
        index: (H, W) place of a pixel's label in ``values``; :data:`IGNORED` where it has none.
        names: texts by their number; empty where labels are numbers.
        pieces: (H, W) number of the polygon a pixel is of, one for those of a class that touch, -1 where there is
            none; None of a raster.
        notes: what a user should know; one line each.
    """

    window: Window
    values: tuple[int, ...]
    index: Index
    names: Mapping[int, str]
    pieces: NDArray[np.int32] | None = None
    notes: tuple[str, ...] = ()


def strips(shape: tuple[int, int], step: int = 1) -> Iterator[slice]:
    """Rows of a raster in parts of about :data:`STRIP` pixels, each a multiple of ``step`` rows but the last."""
    height = max(1, STRIP // max(1, shape[1]) // step) * step
    for row in range(0, shape[0], height):
        yield slice(row, min(row + height, shape[0]))


def read(
    path: Path,
    lattice: Lattice,
    extent: Window,
    *,
    band: int = 1,
    field: str | None = None,
    layer: str | None = None,
    ignore: int | None = None,
) -> Labelled:
    """Labels on a grid, as far as there are images.

    Args:
        path: a raster on the pixels of the grid, or polygons (see ``vectors.py``) in any CRS.
        lattice: the grid.
        extent: what the images cover.
        band: of a raster.
        field, layer: of polygons.
        ignore: label that means none, beside a raster's nodata. None: 0 of a raster that declares no nodata, else none.

    Raises:
        InputError: if the file cannot be read, does not fit, or there is no label in ``extent``.
    """
    if vectors.is_vector(path) or path.suffix.lower() == ".shp":
        found = _of_polygons(path, lattice, extent, field, layer, ignore)
    else:
        if field is not None or layer is not None:
            raise InputError(
                f"data.field and data.layer belong to polygons, {path} is read as a raster: leave them out"
            )
        found = _of_raster(path, lattice, extent, band, ignore)
    if not found.values:
        raise InputError(f"data.labels={path}: no label where there are images: do they overlap?")
    return found


def _of_raster(path: Path, lattice: Lattice, extent: Window, band: int, ignore: int | None) -> Labelled:
    place = rasters.place_of(path)
    (width, height), (rows, cols) = place.pixel, place.shape
    if place.crs is None or place.crs != CRS.from_user_input(lattice.crs) or width <= 0 or height >= 0:
        raise InputError(f"data.labels={path} ({place}) is not on the grid of the images: warp it to them, nearest")
    window = lattice.window(place.left, place.top + height * rows, place.left + width * cols, place.top)
    if not lattice.holds(rasterio.Affine(width, 0, place.left, 0, height, place.top)) or window.shape != place.shape:
        raise InputError(f"data.labels={path} ({place}) is not on the pixels of the images: warp it to them, nearest")
    part = window.intersect(extent)
    index = np.full(part.shape, IGNORED, np.int16)
    # Labels are numbered as they come up; when all are known, by size.
    numbers: dict[int, int] = {}
    zeros = 0
    try:
        with rasterio.open(path) as file:
            if not 1 <= band <= file.count:
                raise InputError(f"data.band={band}: {path} has bands 1 to {file.count}")
            if not np.issubdtype(np.dtype(file.dtypes[band - 1]), np.integer):
                raise InputError(
                    f"data.labels={path}: band {band} is {file.dtypes[band - 1]}, classes are whole numbers"
                )
            nodata = file.nodatavals[band - 1]
            # A mask or an alpha band says where there is a label, whatever the values below it.
            masked = MaskFlags.per_dataset in file.mask_flag_enums[band - 1]
            for strip in strips(part.shape) if part.pixels else ():
                row = part.row - window.row + strip.start
                inside = RasterWindow(part.col - window.col, row, part.width, strip.stop - strip.start)
                values = file.read(band, window=inside)
                known = np.ones(values.shape, np.bool_) if nodata is None else values != nodata
                if masked:
                    known &= file.read_masks(band, window=inside) != 0
                zeros += int((values[known] == 0).sum())
                if ignore is not None or nodata is None:
                    known &= values != (ignore or 0)
                present, place_of = np.unique(values[known], return_inverse=True)
                require_labels(path, present)
                given = [numbers.setdefault(int(value), len(numbers)) for value in present]
                if len(numbers) > MAX_LABELS:
                    raise InputError(
                        f"data.labels={path} has more than {MAX_LABELS} different labels: are these classes?"
                    )
                index[strip][known] = np.array(given, np.int16)[place_of]
    except (RasterioError, OSError) as error:
        raise InputError(f"data.labels: cannot read {path}: {error}") from error
    labels = sorted(numbers)
    places = {label: place for place, label in enumerate(labels)}
    # The last one is for pixels of -1.
    final = np.array([*(places[label] for label in numbers), IGNORED], np.int16)
    for strip in strips(part.shape):
        index[strip] = final[index[strip]]
    return Labelled(part, tuple(labels), index, {}, None, _about_zero(path, nodata, ignore, zeros))


def require_labels(path: Path, labels: NDArray[Any]) -> None:
    """Raises InputError if one of some ascending labels is too large a number."""
    limits = np.iinfo(np.int32)
    if len(labels) and (int(labels[-1]) > limits.max or int(labels[0]) <= limits.min):
        raise InputError(f"{path} has labels beyond {limits.min + 1} to {limits.max}: these are no classes")


def _about_zero(path: Path, nodata: float | None, ignore: int | None, zeros: int) -> tuple[str, ...]:
    """What became of pixels of 0, which some mean as a class and others as none."""
    if not zeros or ignore is not None or nodata == 0:
        return ()
    if nodata is None:
        return (
            f"{zeros} pixels of 0 in {path.name} are taken as no label, as it declares no nodata: ignore_index=-1 (or "
            "another number that is no class) makes 0 a class",
        )
    return (f"0 is a class in {path.name} ({zeros} pixels), as its nodata is {nodata:g}: ignore_index=0 leaves it out",)


def _of_polygons(
    path: Path, lattice: Lattice, extent: Window, field: str | None, layer: str | None, ignore: int | None
) -> Labelled:
    given = vectors.read(path, layer, OPTIONS)
    if any(one.points for one in given.features):
        raise InputError(f"data.labels: a feature of {path} is a Point, labels to fine-tune on are polygons")
    field = vectors.chosen(given, field, OPTIONS)
    given_classes = vectors.classes(given, field, OPTIONS)
    # Parts of a feature are dealt with one by one: a file may hold all fields of a class as one feature.
    parts = [
        (part, value)
        for one, value in zip(given.moved(lattice.crs, OPTIONS).features, given_classes, strict=True)
        for part in one.polygons
        if value is not None
    ]
    if not parts:
        raise InputError(f"data.labels: {path} has no polygon with a value in {field}")
    moved = [{"type": "Polygon", "coordinates": part} for part, _ in parts]
    names = sorted({value for value in given_classes if isinstance(value, str)})
    if names and ignore is not None:
        raise InputError(f"ignore_index={ignore}: the classes of {path} are texts: leave it out")
    numbers = {name: number for number, name in enumerate(names, 1)}
    labels = [numbers[value] if isinstance(value, str) else value for _, value in parts]
    if any(abs(label) >= -int(NONE) for label in labels):
        raise InputError(f"data.labels={path} has classes beyond {-int(NONE) - 1}: name them by text")
    points = np.array([p for part, _ in parts for ring in part for p in ring])
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    if left >= right or bottom >= top:
        raise InputError(f"data.labels: the polygons of {path} have no area: draw them around pixels")
    window = lattice.window(float(left), float(bottom), float(right), float(top)).intersect(extent)
    values = sorted(set(labels))
    if len(values) > MAX_LABELS:
        raise InputError(f"data.labels={path} has more than {MAX_LABELS} different labels: are these classes?")
    if not window.pixels:
        return Labelled(window, (), np.full((0, 0), IGNORED, np.int16), {})
    # A pixel has the class of the polygon that holds its centre; of several, that of the last.
    pieces = rasterio.features.rasterize(
        list(zip(moved, range(len(moved)), strict=True)),
        out_shape=window.shape,
        fill=-1,
        transform=lattice.transform(window),
        dtype="int32",
    )
    # The last one is for pixels of -1.
    kept = np.array([*(label != ignore for label in labels), False])
    places = np.where(kept, np.searchsorted(values, [*labels, 0]), IGNORED)
    joined = touching(pieces, places)
    there = np.zeros(len(places), np.bool_)
    for strip in strips(window.shape):
        there[pieces[strip]] = True
    seen = np.zeros(len(values), np.bool_)
    seen[places[there & kept]] = True
    lost = _about_lost(there[:-1], kept[:-1], [names[v - 1] if names else f"{v}" for v in values], places, seen)
    # Only labels that occur count.
    places = np.where(places != IGNORED, np.where(seen, np.cumsum(seen) - 1, IGNORED)[places], IGNORED).astype(np.int16)
    index = np.empty(window.shape, np.int16)
    for strip in strips(window.shape):
        index[strip] = places[pieces[strip]]
        pieces[strip] = joined[pieces[strip]]
    present = tuple(value for value, there in zip(values, seen, strict=True) if there)
    return Labelled(window, present, index, {number: name for name, number in numbers.items()}, pieces, lost)


def _about_lost(
    there: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    names: Sequence[str],
    places: NDArray[np.integer[Any]],
    seen: NDArray[np.bool_],
) -> tuple[str, ...]:
    """What became of polygons that no pixel is of: a class may be gone with them.

    Args:
        there, kept: of each polygon, whether it has a pixel, and whether its class counts.
        names: of the classes.
        places: class of each polygon.
        seen: of each class, whether it has a pixel.
    """
    lost = kept & ~there
    if not lost.any():
        return ()
    gone = [names[place] for place in np.unique(places[:-1][lost]) if not seen[place]]
    more = f" and {len(gone) - 10} more" if len(gone) > 10 else ""
    classes = f"; with them these classes are left out: {', '.join(gone[:10])}{more}" if gone else ""
    return (
        f"{int(lost.sum())} of {int(kept.sum())} polygons have no pixel (they hold no pixel's centre, lie under later "
        f"ones or where there are no images){classes}",
    )


def touching(pieces: NDArray[np.int32], places: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """The number that all pieces share which touch and are of one class: the smallest of them.

    Args:
        pieces: (H, W) numbers from 0, -1 where there is none.
        places: (pieces + 1,) class of each, :data:`IGNORED` last.

    Returns:
        (pieces + 1,) by number; -1 last.
    """
    joined = np.arange(len(places), dtype=np.int32)
    joined[-1] = -1

    def root(piece: int) -> int:
        while joined[piece] != piece:
            joined[piece] = joined[joined[piece]]
            piece = int(joined[piece])
        return piece

    for strip in strips(pieces.shape):
        # With the row below, whose pixels may touch the strip's.
        rows = pieces[strip.start : strip.stop + 1]
        for one, other in ((rows[:, :-1], rows[:, 1:]), (rows[:-1], rows[1:])):
            touch = (one != other) & (one >= 0) & (other >= 0)
            pairs = np.unique(np.stack([one[touch], other[touch]], axis=1), axis=0)
            for a, b in pairs[places[pairs[:, 0]] == places[pairs[:, 1]]].tolist():
                low, high = sorted((root(a), root(b)))
                joined[high] = low
    for piece in range(len(joined) - 1):
        joined[piece] = root(piece)
    return joined


@dataclass(frozen=True)
class Legend:
    """The classes of a run.

    Attributes:
        labels: of the classes, as they were given, ascending; a class' index is its place here.
        classes: with the values they have in rasters.
        nodata: the value of no class.
    """

    labels: tuple[int, ...]
    classes: tuple[Class, ...]
    nodata: int

    def index(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
        """Index of the class of every label; :data:`IGNORED` where it has none."""
        known = np.array(self.labels, np.int64)
        place = np.searchsorted(known, labels).clip(max=len(known) - 1)
        return np.where(known[place] == labels, place, IGNORED).astype(np.int16)


def legend(present: Iterable[int], names: Mapping[int, str], colours: Mapping[int, str] | None = None) -> Legend:
    """The classes of the labels that occur in training.

    Labels of 0 to 254 are the values of rasters, too, with nodata 0, or 255 where 0 is a class; others are numbered
    from 1.

    Args:
        present: labels.
        names: by label; others are named by their number.
        colours: by label.

    Raises:
        InputError: if there are fewer than two classes or more than 254, or two have one name.
    """
    labels = tuple(sorted(set(present)))
    told = {label: names.get(label, f"{label}") for label in labels}
    if len(labels) < 2:
        raise InputError(
            f"{len(labels)} classes to train on ({', '.join(told.values()) or 'none'}), two are needed: label several "
            "places of each class, far apart"
        )
    if len(labels) >= MAX_CLASSES:
        raise InputError(f"{len(labels)} classes to train on, a byte holds {MAX_CLASSES - 1}: are these classes?")
    # Scores, and rasters of probabilities, go by name.
    first: dict[str, int] = {}
    for label, name in told.items():
        if first.setdefault(name, label) != label:
            raise InputError(f"class_names: labels {first[name]} and {label} are both called {name}: rename one")
    direct = labels[0] >= 0 and labels[-1] <= 255 and {0, 255} - set(labels)
    nodata = 0 if not direct or labels[0] > 0 else 255
    return Legend(
        labels,
        tuple(
            Class(
                label if direct else number,
                told[label],
                (colours or {}).get(label) or colour(number - 1),
            )
            for number, label in enumerate(labels, 1)
        ),
        nodata,
    )


def names_of(given: Any) -> dict[int, str]:
    """The names of classes out of ``class_names``.

    Raises:
        InputError: if it is no table of texts by whole numbers.
    """
    if given is None:
        return {}
    result: dict[int, str] = {}
    for key, name in given.items() if isinstance(given, Mapping) else [(None, None)]:
        if type(key) is not int or not isinstance(name, str | int) or not one_line(f"{name}"):
            raise InputError(f"class_names={given} must be names by label: 'class_names={{1: wheat, 2: maize}}'")
        result[key] = one_line(f"{name}")
    return result


def unused(given: Any, present: Iterable[int]) -> list[str]:
    """A line about names in ``class_names`` of labels that do not occur, if there are any."""
    missing = sorted(set(names_of(given)) - set(present))
    return [f"class_names: no pixel has the label {', '.join(map(str, missing[:10]))}"] if missing else []


def about_negative(known: Legend) -> list[str]:
    """A line about classes below 0, if there are any: in many files these are no labels."""
    below = [label for label in known.labels if label < 0]
    if not below:
        return []
    return [
        f"labels below 0 are classes: {', '.join(map(str, below[:10]))}; ignore_index={below[0]} leaves that one out"
    ]
