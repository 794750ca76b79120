"""A folder in the layout of PASTIS-R (Garnot, Landrieu, Chehata 2022, doi 10.1016/j.isprsjprs.2022.03.012).

    metadata.geojson                  a feature a patch: ID_PATCH, Fold, dates-S2 and dates-S1A, {index: YYYYMMDD}
    DATA_S2/S2_ID.npy                 (T, 10, H, W) reflectance x 10000, B02 B03 B04 B05 B06 B07 B08 B8A B11 B12
    DATA_S1A/S1A_ID.npy               (T, 3, H, W) VV, VH in decibels and their difference, ascending orbits
    ANNOTATIONS/TARGET_ID.npy         (C, H, W) classes in the first channel: 0 background, 19 void

The norm files of the dataset are not needed: the encoder's own normalisation applies. Its Sentinel-1 is sigma0, the
published encoders were trained on gamma0, which is about a decibel more: training has to make up for that.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from malice_core.bands import DATE_ORIGIN
from malice_core.errors import InputError
from malice_core.series import Series
from malice_core.training.batch import View
from malice_core.training.finetuning import labels as labelling
from malice_core.training.finetuning.labels import IGNORED, NONE
from malice_core.training.finetuning.places import SPLITS, Classes, Places, left_out, require_split
from malice_core.training.finetuning.settings import Tuning
from malice_core.training.finetuning.sites import require_sensors

FOLDERS = {"s2": ("DATA_S2", "S2", "dates-S2", 10), "s1": ("DATA_S1A", "S1A", "dates-S1A", 3)}
VOID = 19
#: What the numbers stand for.
NAMES = (
    *("background", "meadow", "soft winter wheat", "corn", "winter barley", "winter rapeseed", "spring barley"),
    *("sunflower", "grapevine", "beet", "winter triticale", "winter durum wheat", "fruits, vegetables, flowers"),
    *("potatoes", "leguminous fodder", "soybeans", "orchard", "mixed cereal", "sorghum"),
)
#: Sentinel-2 values that mean nothing was observed, where all bands have them.
_MISSING = (0, -10000)


class Pastis(Places):
    """The patches of a folder; folds are the split.

    Args:
        settings: of the run.
        have: sensors of the model.

    Raises:
        InputError: naming the file or patch that cannot be used.
    """

    def __init__(self, settings: Tuning, have: Collection[str]) -> None:
        data = settings.data
        assert data.pastis is not None
        self.folder, self.halo, self.notes = Path(data.pastis), 0, []
        self.sensors = tuple(sensor for sensor in ("s2", "s1") if sensor in data.sensors)
        require_sensors(self.sensors, have)
        folds = {split: set(getattr(data, f"{split}_folds")) for split in SPLITS}
        self._patches: list[tuple[str, str, dict[str, list[int]]]] = []
        for patch, fold, days in _patches(self.folder, self.sensors):
            split = next((split for split, numbers in folds.items() if fold in numbers), None)
            if split is not None:
                self._patches.append((patch, split, days))
        if not self._patches:
            raise InputError(f"data.pastis={self.folder}: no patch is of the folds asked for")
        ignored = {VOID, VOID if settings.ignore_index is None else settings.ignore_index}
        raw = [self._annotation(patch, ignored) for patch, _, _ in self._patches]
        names = {**dict(enumerate(NAMES)), **labelling.names_of(settings.class_names)}
        present = [np.unique(labels) for labels in raw]
        trained = {
            int(label)
            for labels, (_, split, _) in zip(present, self._patches, strict=True)
            if split == "train"
            for label in labels
        }
        self.legend = labelling.legend(trained - {int(NONE)}, names)
        everything = {int(label) for labels in present for label in labels} - {int(NONE)}
        self.notes += labelling.unused(settings.class_names, everything)
        self.notes += left_out(sorted(everything), self.legend, names)
        self.notes += labelling.about_negative(self.legend)
        self._classes = [self.legend.index(labels) for labels in raw]
        self.side = min(min(labels.shape) for labels in raw) // 8 * 8
        # All files now, so that none is found to be missing after hours.
        sizes = [{s: self._images(tile, s)[1] for s in self.sensors} for tile in range(len(self))]
        for sensor in self.sensors:
            self._require_units(sensor)
        if "s1" in self.sensors:
            self.notes.append(
                "Sentinel-1 of PASTIS-R is sigma0, encoder and prediction take gamma0, about a decibel more: maps of "
                "other images may be worse than the scores say; data.sensors=[s2] leaves it out"
            )
        self.series = {sensor: self._series(sensor) for sensor in self.sensors}
        require_split(self, "give other folds")
        digest = hashlib.sha256()
        for (patch, split, days), size, labels in zip(self._patches, sizes, raw, strict=True):
            digest.update(json.dumps([patch, split, days, size]).encode())
            digest.update(labels.tobytes())
        self.facts = {
            "hash": digest.hexdigest(),
            "path": f"{self.folder}",
            "tiles": len(self),
            "pixels": {split: int(self.pixels(split).sum()) for split in SPLITS},
        }

    def _series(self, sensor: str) -> Series:
        """Dates of the patches that are trained on; each has its own."""
        dates = [days[sensor] for _, split, days in self._patches if split == "train"]
        first, last = min(map(min, dates)), max(map(max, dates))
        return Series(
            least=min(map(len, dates)),
            most=max(map(len, dates)),
            first=DATE_ORIGIN + timedelta(days=first),
            last=DATE_ORIGIN + timedelta(days=last),
        )

    def _annotation(self, patch: str, ignored: Collection[int]) -> labelling.Labels:
        path = self.folder / "ANNOTATIONS" / f"TARGET_{patch}.npy"
        values = _array(path, 3)
        if values.shape[0] < 1 or min(values.shape[1:]) < 16 or any(side % 8 for side in values.shape[1:]):
            raise InputError(
                f"data.pastis: {path} is {values.shape}, must be (channels, H, W), sides multiples of 8, 16 up"
            )
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"data.pastis: {path} is {values.dtype}, classes are whole numbers")
        labelling.require_labels(path, np.unique(values[0]))
        labels = np.array(values[0], np.int32)
        labels[np.isin(labels, list(ignored))] = NONE
        return labels

    def _require_units(self, sensor: str) -> None:
        """Raises InputError if the first patch of a sensor cannot be in the dataset's unit."""
        view = self.view(0, sensor)
        values = view.images[0, :, 0][view.observed[0]]
        if not len(values):
            return
        median = float(values.median())
        # Power above 1 was positive decibels, or no decibels at all; reflectance below 10 was not multiplied.
        if (median >= 1) if sensor == "s1" else (median < 10):
            unit = "decibels" if sensor == "s1" else "reflectance x 10000"
            raise InputError(
                f"data.pastis: {FOLDERS[sensor][0]} of {self.folder} does not hold {unit} (after conversion the median "
                f"of {self.name(0)} is {median:.3g}): convert it"
            )

    def __len__(self) -> int:
        return len(self._patches)

    def name(self, tile: int) -> str:
        return f"patch {self._patches[tile][0]}"

    def target(self, tile: int, split: str) -> Classes:
        classes = self._classes[tile]
        return classes if self._patches[tile][1] == split else np.full_like(classes, IGNORED)

    def view(self, tile: int, sensor: str) -> View:
        height, width = self._classes[tile].shape
        return self.crop(tile, sensor, slice(0, height), slice(0, width))

    def _images(self, tile: int, sensor: str) -> tuple[NDArray[Any], int]:
        """The images of a patch, memory-mapped, and the bytes of their file.

        Raises:
            InputError: if they cannot be read, or are not of the patch's dates and size.
        """
        patch, _, dates = self._patches[tile]
        folder, prefix, _, bands = FOLDERS[sensor]
        path = self.folder / folder / f"{prefix}_{patch}.npy"
        values = _array(path, 4)
        shape = (len(dates[sensor]), bands, *self._classes[tile].shape)
        if values.shape != shape:
            raise InputError(f"data.pastis: {path} is {values.shape}, dates and annotation of the patch say {shape}")
        if not (np.issubdtype(values.dtype, np.integer) or np.issubdtype(values.dtype, np.floating)):
            raise InputError(f"data.pastis: {path} is {values.dtype}, images are numbers")
        return values, path.stat().st_size

    def crop(self, tile: int, sensor: str, rows: slice, cols: slice) -> View:
        values, _ = self._images(tile, sensor)
        dates = self._patches[tile][2]
        part = np.array(values[..., rows, cols], np.float32)
        images, observed = (_reflectance if sensor == "s2" else _power)(part)
        seen = torch.from_numpy(observed)[None]
        days = torch.tensor([dates[sensor]])
        return View(torch.from_numpy(images)[None], days, torch.zeros_like(days, dtype=torch.bool), seen, seen)


def _reflectance(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(T, 10, H, W) as stored -> reflectance x 10000, 0 where missing, and (T, H, W) whether it was observed."""
    missing = np.asarray(np.isnan(values).any(axis=1))
    for value in _MISSING:
        missing |= np.asarray((values == value).all(axis=1))
    return np.where(missing[:, None], np.float32(0), values), ~missing


def _power(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(T, 3, H, W) VV, VH in decibels, their difference -> (T, 2, H, W) linear power, and whether it was observed."""
    decibels = values[:, :2]
    missing = np.asarray(~np.isfinite(decibels).all(axis=1) | (decibels == 0).all(axis=1))
    power = 10 ** (np.where(missing[:, None], np.float32(0), decibels) / np.float32(10))
    return np.where(missing[:, None], np.float32(0), power).astype(np.float32), ~missing


def _array(path: Path, axes: int) -> NDArray[Any]:
    """An array of a file, memory-mapped; nothing in it is ever unpickled."""
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    # NumPy takes what begins like a zip archive for one of its own.
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"data.pastis: cannot read {path}: {error}") from error
    if not isinstance(values, np.ndarray) or values.ndim != axes:
        raise InputError(f"data.pastis: {path} holds no array of {axes} axes")
    return values


def _patches(folder: Path, sensors: Collection[str]) -> list[tuple[str, int, dict[str, list[int]]]]:
    """Name, fold and days since ``bands.DATE_ORIGIN`` by sensor, of every patch."""
    path = folder / "metadata.geojson"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        features = [one["properties"] for one in content["features"]]
    except OSError as error:
        raise InputError(f"data.pastis: cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"data.pastis: {path} is no FeatureCollection of patches ({error!r:.100})") from error
    for sensor in sensors:
        if not (folder / FOLDERS[sensor][0]).is_dir():
            other = "s1" if sensor == "s2" else "s2"
            raise InputError(f"data.pastis: {folder} has no folder {FOLDERS[sensor][0]}: give data.sensors=[{other}]")
    found: dict[int, tuple[str, int, dict[str, list[int]]]] = {}
    for number, one in enumerate(features):
        try:
            patch, fold = _whole(one["ID_PATCH"]), _whole(one["Fold"])
            days = {sensor: _days(one[FOLDERS[sensor][2]]) for sensor in sensors}
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError(f"data.pastis: feature {number} of {path} is damaged: {error!r:.100}") from error
        if patch in found:
            # In two folds it would be tested on what it was trained on.
            raise InputError(f"data.pastis: {path} holds patch {patch} twice, the second is feature {number}: drop one")
        found[patch] = f"{patch}", fold, days
    return [found[patch] for patch in sorted(found)]


def _whole(given: Any) -> int:
    """A whole number, which some programs write as text or with a decimal point."""
    number = int(given)
    if isinstance(given, float) and number != given:
        raise ValueError(f"{given} is no whole number")
    return number


def _days(given: Any) -> list[int]:
    """Days of {index: YYYYMMDD}, by index; some programs write that table as text."""
    table = json.loads(given) if isinstance(given, str) else given
    texts = [f"{table[key]}" for key in sorted(table, key=int)]
    if not texts:
        raise ValueError("no dates")
    return [(date(int(text[:4]), int(text[4:6]), int(text[6:])) - DATE_ORIGIN).days for text in texts]
