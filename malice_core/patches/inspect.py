"""What is in a dataset, and whether it is whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from malice_core import bands, selection
from malice_core.cancelling import Cancel
from malice_core.errors import InputError
from malice_core.images.units import GAMMA0_HIGH, GAMMA0_LOW
from malice_core.patches.splits import SPLITS
from malice_core.patches.store import CHANNELS, SENSORS, Dataset, Place, names
from malice_core.reporting import Reporter
from malice_core.store.statistics import AUX_WEATHER

#: Where the median of a band lies in plausible data, by sensor: see ``images.units``.
PLAUSIBLE = {"s2": (1.0, 15000.0), "s1": (GAMMA0_LOW, GAMMA0_HIGH)}


def check(dataset: Dataset, reporter: Reporter, cancel: Cancel, *, thorough: bool) -> None:
    """Checks that every patch is there; ``thorough``: reads all of them and compares their hashes too.

    Raises:
        InputError: naming the first file that is missing or damaged.
    """
    patches = [(i, n) for split in SPLITS for i, n in dataset.of_split(split)]
    for place, content in enumerate(dataset.places):
        for name in (*names(dataset.auxiliary), *(f"{key}_counts" for key in content.series)):
            dataset.array(place, name)
    for done, (place, patch) in enumerate(patches):
        cancel.check()
        for name in names(dataset.auxiliary):
            file = dataset.file(place, patch, name)
            if not file.is_file() or not file.stat().st_size:
                raise InputError(f"{file} is missing or empty: copy the dataset again, or build it again")
        if thorough:
            if dataset.digest(place, patch) != dataset.places[place].patches[patch].sha256:
                raise InputError(
                    f"{dataset.folder}: patch {patch} of {dataset.places[place].name} is not what was built (its hash "
                    "differs): copy the dataset again, or build it again"
                )
            reporter.progress(done + 1, len(patches), "checking")


def summary(dataset: Dataset) -> dict[str, Any]:
    """The dataset in numbers, as plain values."""
    return {
        "folder": str(dataset.folder),
        "hash": dataset.hash,
        "patch": dataset.patch,
        "resolution": dataset.resolution,
        "rule": dataset.rule.describe(),
        "patches": {split: len(dataset.of_split(split)) for split in SPLITS},
        "bytes": sum(file.stat().st_size for file in dataset.folder.rglob("*") if file.is_file()),
        "places": [_place(dataset, i, place) for i, place in enumerate(dataset.places)],
    }


def _place(dataset: Dataset, number: int, place: Place) -> dict[str, Any]:
    kept = [n for n, patch in enumerate(place.patches) if patch.split]
    sensors = {}
    for key, series in place.series.items():
        counts = np.asarray(dataset.array(number, f"{key}_counts")[:])[kept].sum((0, 1), dtype=np.int64)
        ranges = place.content["ranges"][key]
        first, last = (bands.DATE_ORIGIN + timedelta(series.days[i]) for i in (0, -1))
        sensors[key] = {
            "dates": len(series.days),
            "first": first.isoformat(),
            "last": last.isoformat(),
            "observed": float(counts[0] / (len(kept) * len(series.days) * dataset.patch**2)),
            "cloud": float(1 - counts[1] / counts[0]) if counts[0] else 0.0,
            "ranges": dict(zip(bands.SENSORS[key].bands, ranges, strict=True)) if ranges else {},
        }
    content = {
        "name": place.name,
        "crs": selection.crs_name(place.lattice),
        "patches": {split: sum(patch.split == split for patch in place.patches) for split in SPLITS},
        "left_out": len(place.patches) - len(kept),
        "classified": place.content["clouds"] is not None,
        "sensors": sensors,
    }
    return content | {"surroundings": _around(dataset, number, kept)} if dataset.auxiliary else content


def _around(dataset: Dataset, number: int, kept: list[int]) -> dict[str, Any]:
    """Least, median and greatest value of the terrain's elevation, of each variable of the weather, and of each cosine
    and sine, over the patches that are kept; and how gaps were filled."""
    place = dataset.places[number]
    found: dict[str, Any] = dict(place.content["surroundings"])
    terrain = dataset.array(number, "terrain")
    elevation = np.concatenate([np.asarray(terrain[n, 0]).ravel()[::97] for n in kept])
    found["elevation"] = _range(elevation)
    for key, series in place.series.items():
        weather = np.asarray(dataset.array(number, f"{key}_weather")[:])[kept]
        days = weather.reshape(-1, len(AUX_WEATHER.channels), weather.shape[-1] // len(AUX_WEATHER.channels))
        found[key] = {
            "weather": {name: _range(days[:, at]) for at, name in enumerate(AUX_WEATHER.channels)},
            "angles": dict(zip(CHANNELS[key], map(_range, np.transpose(series.angles or ())), strict=True)),
        }
    return found


def _range(values: Any) -> list[float]:
    return [float(value) for value in (np.min(values), np.median(values), np.max(values))]


def doubts(content: dict[str, Any]) -> list[str]:
    """What looks wrong in a :func:`summary`: units, empty splits, places without clear pixels; one line each."""
    found = [
        f"no patch for {split}: training needs train and val"
        for split in ("train", "val")
        if not content["patches"][split]
    ]
    for place in content["places"]:
        for key, sensor in place["sensors"].items():
            low, high = PLAUSIBLE[key]
            for band, (_, middle, _) in sensor["ranges"].items():
                if not low <= middle <= high:
                    found.append(
                        f"{place['name']}: the median of {band} is {middle:g}; {bands.SENSORS[key].unit} lies mostly "
                        f"in {low:g} to {high:g}"
                    )
            if not sensor["ranges"]:
                found.append(f"{place['name']}: no clear pixel of {key.upper()}")
            if "surroundings" in place:
                for name, (_, middle, _) in place["surroundings"][key]["weather"].items():
                    at = AUX_WEATHER.channels.index(name)
                    low, high = (numbers[at] for numbers in (AUX_WEATHER.qmin, AUX_WEATHER.qmax))
                    if not low <= middle <= high:
                        found.append(
                            f"{place['name']}: the median of {name} at {key.upper()} dates is {middle:g}, outside of "
                            f"what MALICE Aux tells apart, {low:g} to {high:g}"
                        )
    return found


def text(content: dict[str, Any]) -> str:
    """A :func:`summary` for people."""
    rule = content["rule"]
    counts = ", ".join(f"{count} {split}" for split, count in content["patches"].items())
    lines = [
        f"dataset   {content['folder']}, {content['bytes'] / 1e6:.1f} MB",
        f"hash      {content['hash']}",
        f"patches   {counts}; {content['patch']} x {content['patch']} pixels of {content['resolution']:g} m",
        f"split     {'/'.join(f'{share:g}' for share in rule['shares'])} by cells of {rule['cell']} x {rule['cell']} "
        f"patches, guard {rule['guard']:g} m, seed {rule['seed']}",
    ]
    for place in content["places"]:
        counts = ", ".join(f"{count} {split}" for split, count in place["patches"].items())
        left = f", {place['left_out']} left out (hardly observed)" if place["left_out"] else ""
        lines.append(f"place     {place['name']}, {place['crs']}: {counts}{left}")
        for sensor in SENSORS:
            one = place["sensors"][sensor.key]
            cloud = f", {one['cloud']:.0%} of it cloud" if place["classified"] and sensor.key == "s2" else ""
            lines.append(
                f"  {sensor.key.upper()}      {one['dates']} dates, {one['first']} to {one['last']}, "
                f"{one['observed']:.0%} observed{cloud}; {sensor.unit}:"
            )
            lines += [
                f"    {band:4}  median {middle:.4g}, 2 % below {low:.4g}, 98 % below {high:.4g}"
                for band, (low, middle, high) in one["ranges"].items()
            ]
        if around := place.get("surroundings"):
            low, middle, high = around["elevation"]
            lines.append(f"  terrain elevation {low:.4g} to {high:.4g} m, median {middle:.4g}")
            for sensor in SENSORS:
                known = around[sensor.key]["weather"] | around[sensor.key]["angles"]
                lines.append(f"  around  {sensor.key.upper()} dates, weather as AgERA5 of openEO, cosines and sines:")
                lines += [
                    f"    {name:13} median {middle:.4g}, {low:.4g} to {high:.4g}"
                    for name, (low, middle, high) in known.items()
                ]
    return "\n".join(lines)
