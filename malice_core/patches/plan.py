"""What ``dataset build`` is going to write: images, area, patches and their splits, decided before a pixel is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import malice_core
from malice_core import bands, selection
from malice_core.errors import InputError, OutputError
from malice_core.grid import Lattice, Window
from malice_core.job import Job
from malice_core.patches import splits, store
from malice_core.patches.splits import Footprints, Rule
from malice_core.patches.store import Dataset
from malice_core.patches.surroundings import Surroundings, require_whole, wanted
from malice_core.stack import CloudMask, Stack, discover


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        job: images and the choice of data, as in ``embed``; ``job.output`` is the dataset.
        patch: side in pixels; None: 128, or the dataset's that is appended to.
        shares: of train, val and test; None: the dataset's, or 0.8, 0.1, 0.1. ``seed``, ``guard`` and ``cell``
            likewise.
        name: of the place; None: from CRS, corner and first date.
        append: add to the dataset that is there.
        threads: that read images.
        last: no other place follows at once; what the dataset then lacks is worth a warning.
    """

    job: Job
    patch: int | None = None
    shares: tuple[float, float, float] | None = None
    seed: int | None = None
    cell: int | None = None
    guard: float | None = None
    name: str | None = None
    append: bool = False
    threads: int = 2
    last: bool = True


@dataclass
class Plan:
    """A build, fully decided.

    Attributes:
        base: the dataset that is appended to.
        stacks: by sensor key.
        clouds: where the scene classification sees cloud; None without one.
        around: weather, terrain and angles; None without.
        patches: split by window, in the order in which they are stored.
        fingerprint: identity of the build: images, dates, options, patches.
    """

    request: Request
    base: Dataset | None
    rule: Rule
    name: str
    lattice: Lattice
    stacks: dict[str, Stack]
    clouds: CloudMask | None
    around: Surroundings | None
    patches: dict[Window, str]
    fingerprint: str
    notes: list[str]
    warnings: list[str]

    def close(self) -> None:
        """Closes the files."""
        for stack in self.stacks.values():
            stack.close()
        if self.clouds is not None:
            self.clouds.scl.close()
        if self.around is not None:
            self.around.close()

    def text(self) -> str:
        """The plan for people."""
        counts = ", ".join(f"{list(self.patches.values()).count(name)} {name}" for name in splits.SPLITS)
        side = self.rule.cell * self.rule.patch
        lines = [
            f"# place      {self.name}, {selection.crs_name(self.lattice)}, {self.lattice.res:g} m",
            f"# patches    {len(self.patches)} of {self.rule.patch} x {self.rule.patch} pixels: {counts}",
            f"# split      by cells of {self.rule.cell} x {self.rule.cell} patches "
            f"({side * self.lattice.res / 1000:g} km), guard {self.rule.guard:g} m, seed {self.rule.seed}",
        ]
        for key, stack in self.stacks.items():
            first, last = stack.observations[0].date, stack.observations[-1].date
            lines.append(f"# dates      {len(stack.observations)} {key.upper()}, {first} to {last}")
        lines += [f"# rule       {note}" for note in self.notes]
        return "\n".join(lines)


def make_plan(request: Request) -> Plan:
    """Reads the images' headers and decides what becomes a patch.

    Raises:
        InputError: whatever is wrong, in one line with the culprit and the cure.
    """
    store.zarr()  # its absence is told before minutes of work
    job = request.job
    for option, paths in (("--s2", job.s2), ("--s1", job.s1)):
        if not paths:
            raise InputError(f"{option} is missing: training needs images of both sensors, --s2 and --s1")
    require_whole(job)
    base = _base(request)
    catalogs = {
        "s2": discover("s2", job.s2, s2_offset=job.s2_offset),
        "s1": discover("s1", job.s1, orbit=job.s1_orbit),
    }
    resolution = job.resolution if base is None or job.resolution else base.resolution
    lattice = catalogs["s2"].lattice(resolution)
    if base is not None and lattice.res != base.resolution:
        raise InputError(f"--resolution {lattice.res:g}: {job.output} has pixels of {base.resolution:g} m; give that")
    stacks = {key: selection.choose_dates(job, catalog.on(lattice), key) for key, catalog in catalogs.items()}
    clouds: CloudMask | None = None
    around: Surroundings | None = None
    try:
        warnings: list[str] = []
        around = Surroundings.open(job, lattice) if wanted(job) else None
        area = selection.area_of(job, lattice, stacks["s2"], warnings)
        if job.max_cloud is not None:
            if not job.scl:
                raise InputError("--max-cloud needs the scene classification: give --scl with its files")
            stacks["s2"] = selection.apply_clouds(replace(job, mask_clouds=False), lattice, stacks["s2"], area)
        if job.scl:
            classes = job.cloud_classes or bands.CLOUD_CLASSES
            clouds = CloudMask(discover("scl", job.scl).on(lattice), classes)
        elif job.cloud_classes:
            raise InputError("--cloud-classes needs the scene classification: give --scl with its files")
        else:
            warnings.append("no --scl: clouds are not known, every observed pixel counts as clear in the losses")
        thin = selection.thin if around is None else around.thin
        stacks = {key: thin(job, stack) for key, stack in stacks.items()}
        for key, stack in stacks.items():
            selection.require_overlap(lattice, area, stack, f"{key.upper()} images")
            warnings += stack.warnings
        name = request.name or _name(lattice, area, stacks["s2"])
        if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
            raise InputError(f"--name {name}: use letters, digits, - and _ only: it becomes the name of a folder")
        rule, patches, notes = _patches(request, base, name, lattice, area)
        for stack in stacks.values():
            notes += stack.notes
        if around is not None:
            around.settle(stacks, list(patches))
            notes, warnings = notes + around.notes, warnings + around.warnings
        plan = Plan(request, base, rule, name, lattice, stacks, clouds, around, patches, "", notes, warnings)
        plan.notes, plan.warnings = list(dict.fromkeys(notes)), list(dict.fromkeys(warnings + _doubts(plan)))
        plan.fingerprint = _fingerprint(plan)
    except BaseException:
        for stack in stacks.values():
            stack.close()
        if clouds is not None:
            clouds.scl.close()
        if around is not None:
            around.close()
        raise
    return plan


def require_output(folder: Path, free: bool) -> None:
    """Refuses what must not be overwritten.

    Args:
        folder: of the dataset.
        free: that it is not there is asked for: nothing was said of adding, replacing or going on.

    Raises:
        OutputError: saying what may not be there, or must.
    """
    if folder.suffix != ".zarr":
        raise OutputError(f"--output {folder}: a dataset is a folder whose name ends in .zarr")
    if not folder.absolute().parent.is_dir():
        raise OutputError(f"--output {folder}: the folder {folder.absolute().parent} does not exist; create it first")
    if not folder.exists():
        return
    if free:
        raise OutputError(f"--output {folder} exists already: give --append to add to it, --overwrite to replace it")
    if not store.is_ours(folder):
        raise OutputError(f"--output {folder} is there and is no dataset of ours: give another name")


def _base(request: Request) -> Dataset | None:
    """The dataset to append to, if there is one; refuses what must not be overwritten."""
    folder = request.job.output
    require_output(folder, not (request.append or request.job.overwrite or request.job.resume))
    if not folder.exists():
        return None
    if not request.append:
        return None
    dataset = Dataset(folder)
    if dataset.auxiliary and not wanted(request.job):
        raise InputError(
            f"{folder} holds weather, terrain and angles of all its places: give --weather, --dem, --s2-angles and "
            "--s1-angles (or --angles median) for this one too"
        )
    if wanted(request.job) and not dataset.auxiliary:
        raise InputError(
            f"{folder} was begun without weather, terrain and angles, so none of its places can have them: leave out "
            "--weather, --dem and angles, or build another dataset"
        )
    for option, given, there in (
        ("--patch", request.patch, dataset.rule.patch),
        ("--split", request.shares, dataset.rule.shares),
        ("--seed", request.seed, dataset.rule.seed),
        ("--cell", request.cell, dataset.rule.cell),
        ("--guard", request.guard, dataset.rule.guard),
    ):
        if given is not None and given != there:
            told = "/".join(f"{share:g}" for share in there) if isinstance(there, tuple) else f"{there:g}"
            raise InputError(
                f"{option}: {folder} was begun with {told}, which holds for all of it; leave the option out"
            )
    return dataset


def _patches(
    request: Request, base: Dataset | None, name: str, lattice: Lattice, area: Window
) -> tuple[Rule, dict[Window, str], list[str]]:
    """Rule of the split, split by patch, notes."""
    if base is None:
        shares, seed = request.shares or (0.8, 0.1, 0.1), request.seed or 0
        rule = Rule(shares, seed, 1, request.patch or 128, request.guard or 0.0)
        windows = splits.tiles(area, rule.patch)
        rule = splits.settle(rule, lattice.crs, windows, request.cell)
    else:
        rule = base.rule
        windows = splits.tiles(area, rule.patch)
    others = Footprints(rule.guard)
    for place in base.places if base is not None else ():
        # The place itself may be there already, when a killed build is gone on with.
        if place.name != name:
            for patch in place.patches:
                if patch.split:
                    window = Window(patch.row, patch.col, rule.patch, rule.patch)
                    others.add(place.lattice.crs, patch.split, [place.lattice.bounds(window)])
    patches = splits.assign(rule, lattice, windows, others)
    unused = 1 - len(windows) * rule.patch**2 / area.pixels
    notes = [f"area: {area.width} x {area.height} pixels, {unused:.0%} of it at the edges makes no whole patch"]
    if len(patches) < len(windows):
        notes.append(f"{len(windows) - len(patches)} patches left out: too near to patches of another split")
    if not patches:
        raise InputError("every patch overlaps one of another split in the dataset, so nothing is left to be added")
    return rule, patches, notes


def _doubts(plan: Plan) -> list[str]:
    """Splits that are wanted and would be empty."""
    have = set(plan.patches.values())
    if plan.base is not None:
        have |= {patch.split for place in plan.base.places for patch in place.patches}
    return [
        f"no patch for {name}: append other places, or give a smaller --patch (here are {len(plan.patches)} patches)"
        for name, share in zip(splits.SPLITS, plan.rule.shares, strict=True)
        if plan.request.last and share > 0 and name not in have
    ]


def _name(lattice: Lattice, area: Window, s2: Stack) -> str:
    left, _, _, top = lattice.bounds(area)
    crs = re.sub(r"\W+", "", selection.crs_name(lattice))
    return f"{crs}_{left:.0f}_{top:.0f}_{s2.observations[0].date:%Y%m%d}"


def _fingerprint(plan: Plan) -> str:
    files = {key: stack.files() for key, stack in plan.stacks.items()}
    if plan.clouds is not None:
        files["scl"] = plan.clouds.scl.files()
    if plan.around is not None:
        files |= plan.around.files()
    content: dict[str, Any] = {
        "version": malice_core.__version__,
        "name": plan.name,
        "rule": plan.rule.describe(),
        "lattice": asdict(plan.lattice),
        "patches": [[window.row, window.col, split] for window, split in plan.patches.items()],
        "offset": plan.request.job.s2_offset,
        "clouds": plan.clouds.classes if plan.clouds is not None else None,
        "dates": {
            key: [(one.date.isoformat(), one.orbit) for one in stack.observations] for key, stack in plan.stacks.items()
        },
        "files": {key: [_state(name) for name in found] for key, found in files.items()},
    }
    if plan.around is not None:
        content["surroundings"] = plan.around.describe() | {key: plan.around.degrees(key) for key in plan.stacks}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _state(name: str) -> list[Any]:
    """A file's name with its size and time of change, where it is a local file."""
    try:
        status = os.stat(Path(name))
    except OSError:
        return [name]
    return [name, status.st_size, status.st_mtime_ns]
