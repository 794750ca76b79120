"""Writes the patches of one stack, block by block, so that it can be killed at any moment and resumed.

The new place grows in ``DIR.zarr.malice`` beside the dataset, with a journal that names each patch once its files are
whole. Only when all are there is it renamed into place: a half-built dataset is never taken for a whole one, and
the dataset that is appended to or replaced stays as it was until then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core import bands, scratch
from malice_core.cancelling import Cancel
from malice_core.errors import InputError, OutputError
from malice_core.grid import Window
from malice_core.job import SCRATCH_SUFFIX
from malice_core.patches import store
from malice_core.patches.plan import Plan
from malice_core.patches.store import CLEAR, CLOUDY, SENSORS
from malice_core.reporting import Reporter
from malice_core.stack import Stack

#: What the program, its libraries and GDAL's cache take of ``--memory``.
BASE_BYTES = 400 << 20
#: A patch is left out where either sensor saw less than this share of its pixels on any date.
LEAST_SEEN = 0.5
JOURNAL, PATCHES, WHOLE, OLD = "job.json", "patches.jsonl", "whole.zarr", "replaced.zarr"
#: A dataset of several places that grows, see ``beside.py``, and what builds its places; what is being removed.
GROWING, GONE = ("places.zarr", f"places.zarr{SCRATCH_SUFFIX}"), "discarded"

Arrays = dict[str, NDArray[Any]]


def run(plan: Plan, reporter: Reporter, cancel: Cancel) -> None:
    """Builds what was planned.

    Raises:
        Cancelled: what is finished stays for ``--resume``.
        InputError: an image cannot be read, or nothing was observed.
        OutputError: the dataset cannot be written.
    """
    output = plan.request.job.output
    folder = scratch.folder_of(output)
    with told(folder):
        folder.mkdir(exist_ok=True)
        with scratch.lock(folder / "lock"):
            restore(folder, output)
            if not is_there(plan):
                _claim(plan, folder)
                _write(plan, folder, reporter, cancel)
                _publish(plan, folder)
            shutil.rmtree(folder)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Raises:
    OutputError: if the system refuses to write.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename or folder}: {error.strerror or error}; free space, then run again with "
            "--resume"
        ) from error


def restore(folder: Path, output: Path) -> None:
    """Undoes half of a replacement: the old dataset was moved away and the new one not yet put in place."""
    old = folder / OLD
    if old.exists() and not output.exists():
        os.replace(old, output)
    elif old.exists():
        shutil.rmtree(old)


def is_there(plan: Plan) -> bool:
    """True if a build that is resumed had put its place into the dataset already.

    Raises:
        OutputError: if another place of that name, or another dataset, is there.
    """
    output, job = plan.request.job.output, plan.request.job
    if not output.exists() or (job.overwrite and not job.resume and plan.base is None):
        return False
    dataset = store.Dataset(output)
    for place in dataset.places:
        if place.name == plan.name:
            if job.resume and place.content["fingerprint"] == plan.fingerprint:
                return True
            if plan.base is not None:
                raise OutputError(f"{output} has a place {plan.name} already: give the new one another --name")
    if plan.base is None and not job.overwrite:
        raise OutputError(f"{output} is there and was not built by this command; give --append or --overwrite")
    return False


def claimed(folder: Path) -> None:
    """Raises:
    OutputError: if a scratch folder holds anything but unfinished work.
    """
    known = {"lock", JOURNAL, PATCHES, WHOLE, OLD, GONE, f"{JOURNAL}.tmp", *GROWING}
    if folder.is_symlink() or not {entry.name for entry in folder.iterdir()} <= known:
        raise OutputError(f"{folder} is needed for unfinished work, but holds something else; rename it")


def discard_places(folder: Path) -> None:
    """Removes an unfinished dataset of several places; what is left by a kill is not taken for one."""
    gone = folder / GONE
    if gone.exists():
        shutil.rmtree(gone)
    for name in GROWING:
        if (folder / name).exists():
            os.replace(folder / name, gone)
            shutil.rmtree(gone)


def _claim(plan: Plan, folder: Path) -> None:
    """Makes the scratch folder this build's."""
    journal, resume = folder / JOURNAL, plan.request.job.resume
    claimed(folder)
    if not resume:
        discard_places(folder)
    elif any((folder / name).exists() for name in GROWING):
        raise OutputError(
            f"--resume: {folder} belongs to a build of several places: go on with it (--places), or run without "
            "--resume to start anew"
        )
    if resume and journal.exists():
        try:
            owner = json.loads(journal.read_text(encoding="utf-8"))["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"--resume: {journal} is damaged; run without --resume to start anew") from error
        if owner != plan.fingerprint:
            raise OutputError(
                f"--resume: {folder} belongs to another build (other images, dates or options); run without --resume "
                "to start anew"
            )
        for partial in (folder / WHOLE).rglob("*.partial"):
            partial.unlink()  # what Zarr was writing when it was killed
    else:
        journal.unlink(missing_ok=True)
        (folder / PATCHES).unlink(missing_ok=True)
        if (folder / WHOLE).exists():
            shutil.rmtree(folder / WHOLE)
        scratch.write_whole(journal, json.dumps({"fingerprint": plan.fingerprint}).encode())


def _moved(plan: Plan) -> bool:
    """True if this build's place lies in the dataset, listed in its index or not."""
    try:
        return bool(store.place_of(plan.request.job.output / plan.name)["fingerprint"] == plan.fingerprint)
    except (InputError, KeyError):
        return False


def _finished(folder: Path) -> dict[int, dict[str, Any]]:
    """The journal's patches by number; a line that a kill cut short does not count."""
    found: dict[int, dict[str, Any]] = {}
    path = folder / PATCHES
    if path.exists():
        *lines, _ = path.read_bytes().split(b"\n")
        for line in lines:
            entry = json.loads(line)
            found[entry["patch"]] = entry
        # Off with the torn end, or the next line would be added to it.
        with open(path, "r+b") as file:
            file.truncate(sum(len(line) + 1 for line in lines))
    return found


def _write(plan: Plan, folder: Path, reporter: Reporter, cancel: Cancel) -> None:
    """Reads and writes all patches that the journal does not name, then describes the place."""
    windows, patch = list(plan.patches), plan.rule.patch
    dates = {key: len(stack.observations) for key, stack in plan.stacks.items()}
    place = folder / WHOLE / plan.name
    if plan.base is not None and not place.exists() and _moved(plan):
        return  # killed between the two steps of _publish
    arrays = store.create_arrays(place, len(windows), dates, patch, plan.around is not None)
    done = _finished(folder)
    reporter.progress(len(done), len(windows), "writing patches")
    todo = [number for number in range(len(windows)) if number not in done]
    with open(folder / PATCHES, "ab") as journal, ThreadPoolExecutor(plan.request.threads) as pool:
        for block in _blocks(plan, windows, todo):
            for number, content in _read(plan, [windows[n] for n in block], block, pool, cancel):
                entry = _entry(number, content, patch)
                if entry["kept"]:
                    for name, array in arrays.items():
                        array[number] = content[name]
                journal.write(json.dumps(entry).encode() + b"\n")
                journal.flush()
                done[number] = entry
                reporter.progress(len(done), len(windows), "writing patches")
                cancel.check()
    if not any(entry["kept"] for entry in done.values()):
        raise InputError("no patch was observed by both sensors: check that the images cover the same area")
    for key in dates:
        counts = np.array([done[number]["counts"][key] for number in range(len(windows))], np.int32)
        store.write_counts(place, key, counts)
    scratch.write_whole(place / "zarr.json", store.group_text(store.PLACE, _describe(plan, done)))


def _blocks(plan: Plan, windows: list[Window], todo: list[int]) -> list[list[int]]:
    """Numbers of patches that are read at a time: squares as large as ``--memory`` allows, because images are stored
    in tiles larger than a patch, which are then decoded once."""
    dates = {key: len(stack.observations) for key, stack in plan.stacks.items()}
    pixels = plan.rule.patch**2
    one = sum(dates[s.key] * pixels * (len(s.bands) * store.DTYPES[s.key].itemsize + 1) for s in SENSORS)
    if plan.around is not None:
        one += 4 * (store.TERRAIN * pixels + store.WEATHER * sum(dates.values()))
    # Each thread holds a date as float32, about three times while it is resampled and rounded.
    reading = plan.request.threads * pixels * 3 * 4 * len(bands.S2.bands)
    # One patch is held three times while it is hashed and compressed.
    most = max(1, int((plan.request.job.memory - BASE_BYTES - 2 * one) / (one + reading)))
    side = int(most**0.5) * plan.rule.patch
    found: dict[tuple[int, int], list[int]] = {}
    for number in todo:
        window = windows[number]
        key = ((window.row - windows[0].row) // side, (window.col - windows[0].col) // side)
        found.setdefault(key, []).append(number)
    return list(found.values())


def _read(
    plan: Plan, windows: list[Window], numbers: list[int], pool: ThreadPoolExecutor, cancel: Cancel
) -> Iterator[tuple[int, Arrays]]:
    """The arrays of the patches of one block, all dates of both sensors, and what is around them; patch by patch, so
    that they can be freed."""
    whole, patch = windows[0], plan.rule.patch
    for window in windows[1:]:
        whole = whole.union(window)
    parts = [window.slices_in(whole) for window in windows]
    content: list[Arrays] = [{} for _ in windows]
    for sensor in SENSORS:
        stack = plan.stacks[sensor.key]
        count = len(stack.observations)
        for arrays in content:
            arrays[sensor.key] = np.zeros((count, len(sensor.bands), patch, patch), store.DTYPES[sensor.key])
            arrays[f"{sensor.key}_mask"] = np.zeros((count, patch, patch), np.uint8)

        def one(index: int, key: str = sensor.key) -> None:
            cancel.check()
            values, mask = _date(plan, key, index, whole)
            for (rows, cols), arrays in zip(parts, content, strict=True):
                arrays[key][index] = values[:, rows, cols]
                arrays[f"{key}_mask"][index] = mask[rows, cols]

        for _ in pool.map(one, range(count)):
            pass
    for number, window in zip(numbers, windows, strict=True):
        yield number, content.pop(0) | (plan.around.of(window) if plan.around is not None else {})


def _date(plan: Plan, key: str, index: int, window: Window) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Stored values (bands, H, W) and mask (H, W) of one date."""
    values, observed = _inside(plan.stacks[key], index, window)
    mask = np.where(observed, CLEAR, store.MISSING).astype(np.uint8)
    if key == "s2":
        np.rint(values, out=values)
        # 3.2767 is beyond what any reflectance means, and far beyond what the networks' normalisation keeps.
        np.clip(values, -32768, 32767, out=values)
        if plan.clouds is not None:
            mask[observed & plan.clouds.at(plan.stacks[key].observations[index], window)] = CLOUDY
    return values.astype(store.DTYPES[key], copy=False), mask


def _inside(stack: Stack, index: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """``Stack.read`` for a window that may reach beyond the images."""
    values = np.zeros((len(stack.sensor.bands), *window.shape), np.float32)
    observed = np.zeros(window.shape, bool)
    part = window.intersect(stack.extent)
    if part.pixels:
        rows, cols = part.slices_in(window)
        values[:, rows, cols], observed[rows, cols] = stack.read(index, part)
    return values, observed


def _entry(number: int, content: Arrays, patch: int) -> dict[str, Any]:
    """What the journal keeps of a patch: hash, pixels observed and clear by date, ranges of values."""
    counts, ranges, kept = {}, {}, True
    for sensor in SENSORS:
        values, mask = content[sensor.key], content[f"{sensor.key}_mask"]
        counts[sensor.key] = np.stack([(mask > 0).sum((1, 2)), (mask == CLEAR).sum((1, 2))], 1).tolist()
        kept &= bool((mask > 0).any(0).sum() >= LEAST_SEEN * patch * patch)
        seen = np.moveaxis(values, 1, 0)[:, mask == CLEAR]
        # Every 97th: thousands of pixels tell a range as well as millions.
        sample = seen[:, :: max(1, min(97, seen.shape[1] // 1000))].astype(np.float64)
        ranges[sensor.key] = np.percentile(sample, (2, 50, 98), axis=1).T.tolist() if seen.size else None
    sha256 = store.digest(content) if kept else ""
    return {"patch": number, "kept": kept, "sha256": sha256, "counts": counts, "ranges": ranges}


def _describe(plan: Plan, done: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The attributes of the place."""
    patches = []
    for number, (window, split) in enumerate(plan.patches.items()):
        left, _, _, top = plan.lattice.bounds(window)
        entry = done[number]
        where = {"row": window.row, "col": window.col, "left": left, "top": top}
        patches.append(where | {"split": split if entry["kept"] else "", "sha256": entry["sha256"]})
    sensors = {}
    for key, stack in plan.stacks.items():
        sensors[key] = {
            "bands": list(stack.sensor.bands),
            "unit": stack.sensor.unit,
            "days": [(one.date - bands.DATE_ORIGIN).days for one in stack.observations],
            "dates": [one.date.isoformat() for one in stack.observations],
            "orbits": [one.orbit for one in stack.observations],
        }
        if plan.around is not None:
            sensors[key]["angles"] = plan.around.degrees(key)
    kept = [entry for _, entry in sorted(done.items()) if entry["kept"]]
    ranges = {}
    for key in plan.stacks:
        found = [entry["ranges"][key] for entry in kept if entry["ranges"][key] is not None]
        ranges[key] = np.median(found, axis=0).round(6).tolist() if found else None
    content = {
        "lattice": asdict(plan.lattice),
        "patches": patches,
        "sensors": sensors,
        "ranges": ranges,
        "clouds": list(plan.clouds.classes) if plan.clouds is not None else None,
        "notes": plan.notes,
        "warnings": plan.warnings,
        "fingerprint": plan.fingerprint,
    }
    return content if plan.around is None else content | {"surroundings": plan.around.describe()}


def _publish(plan: Plan, folder: Path) -> None:
    """Puts the whole place where it belongs; every step can be the last one before a kill."""
    output, whole = plan.request.job.output, folder / WHOLE
    names = [place.name for place in plan.base.places] if plan.base is not None else []
    index = {
        "format": store.FORMAT if plan.around is None else store.AUXILIARY_FORMAT,
        "patch": plan.rule.patch,
        "resolution": plan.lattice.res,
        "rule": plan.rule.describe(),
        "places": sorted({*names, plan.name}),
    }
    text = store.group_text(store.INDEX, index)
    if plan.base is not None:
        if (whole / plan.name).exists():
            if (output / plan.name).exists():
                shutil.rmtree(output / plan.name)  # left by a build that never got into the index
            os.replace(whole / plan.name, output / plan.name)
        scratch.write_whole(output / "zarr.json", text)
        return
    scratch.write_whole(whole / "zarr.json", text)
    if output.exists():
        os.replace(output, folder / OLD)
    os.replace(whole, output)
