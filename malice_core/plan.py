"""Everything about a run that is decided once, before the first pixel is computed.

Grid, area, dates, masks, normalisation, block size and file layout come out of :func:`make_plan`; what
follows only executes it. A value decided per tile would show as a seam.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import malice_core
from malice_core import bands, cube, memory, models, mosaic, runtime, scratch, selection, workers
from malice_core.cards import Card
from malice_core.classes import ClassLayout
from malice_core.encoder import suited
from malice_core.errors import InputError, OutputError
from malice_core.grid import BlockGrid, Lattice, Window
from malice_core.job import FILE_FORMATS, FORMATS, SUFFIXES, Job
from malice_core.outputs import Product
from malice_core.placing import require_folder
from malice_core.product import Layout, companions, is_store, owner, padded
from malice_core.stack import Stack, discover
from malice_core.surroundings import inputs
from malice_core.surroundings.inputs import Inputs


@dataclass
class Plan:
    """A run, fully decided.

    Attributes:
        stacks: by sensor key, in the order of the output's bands.
        area: what is delivered; grid: the blocks it is computed in.
        budget: estimated peak memory by part, bytes.
        disk: bytes the run needs beside the output at its largest.
        fingerprint: identity of the job (data, dates, options that change numbers, model, version).
        surroundings: what MALICE Aux reads besides; None: the model sees images alone.
    """

    job: Job
    card: Card
    backend: runtime.Backend
    lattice: Lattice
    area: Window
    grid: BlockGrid
    stacks: dict[str, Stack]
    layout: Product
    budget: memory.Budget
    disk: int
    fingerprint: str
    surroundings: Inputs | None = None
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[Path]:
        """Every file the run will put in place; the output is the last."""
        paths = [self.job.counts] if self.job.counts and not self.job.counts_inside else []
        return [*paths, *self.layout.beside(self.job.output).values(), self.job.output]

    def days(self, sensor: str) -> list[int]:
        """Days since the model's date origin, one an observation."""
        return [(item.date - self.card.date_origin).days for item in self.stacks[sensor].observations]

    def close(self) -> None:
        for stack in self.stacks.values():
            stack.close()
        if self.surroundings is not None:
            self.surroundings.close()


def make_plan(job: Job, classes: ClassLayout | None = None) -> Plan:
    """Reads headers and cloud classes, checks everything that can be checked, and decides the run.

    Args:
        job: the options.
        classes: what is to be made of the embeddings, with the model they come from; None: nothing, the embeddings of
            ``job.model`` are the output.

    Raises:
        InputError: whatever is wrong, in one line with the culprit and the cure.
    """
    if not job.s2 and not job.s1:
        raise InputError("no images: give --s2 and/or --s1 with files, folders, netCDF files or text lists")
    if job.s1_orbit is not None and not job.s1:
        raise InputError(f"--s1-orbit {job.s1_orbit} without Sentinel-1: give --s1 too, or drop it")
    check_outputs(job, classes)
    if classes is not None:
        classes.require(job)
        card = classes.card
    else:
        card = models.load(job.model) if job.model else models.default()
    backend = suited(runtime.choose(job.runtime, job.device, job.precision, workers.threads(job)), card)
    wanted = [sensor for sensor in ("s2", "s1") if getattr(job, sensor)]
    for sensor in wanted:
        if sensor not in card.modalities:
            have = ", ".join(key.upper() for key in card.modalities)
            raise InputError(f"model {card.name} has no {sensor.upper()} encoder (it has {have}): drop --{sensor}")
    inputs.refuse(job, card, wanted)
    queries = job.queries if job.queries is not None else tuple(range(card.queries))
    for query in queries:
        if not 0 <= query < card.queries:
            raise InputError(f"--queries {query}: model {card.name} has queries 0 to {card.queries - 1}")
    if len(set(queries)) != len(queries):
        raise InputError(f"--queries {','.join(map(str, queries))}: a query is named twice")

    catalogs = {
        sensor: discover(
            sensor, getattr(job, sensor), s2_offset=job.s2_offset, orbit=job.s1_orbit if sensor == "s1" else None
        )
        for sensor in wanted
    }
    lattice = catalogs[wanted[0]].lattice(job.resolution)
    stacks = {sensor: selection.choose_dates(job, catalog.on(lattice), sensor) for sensor, catalog in catalogs.items()}
    around = None
    try:
        if card.surroundings is not None:
            around = Inputs.open(job, card, lattice, wanted)
        warnings = [line for line in (models.caution(card),) if line]
        area = selection.area_of(job, lattice, stacks[wanted[0]], warnings)
        extent = f"the union of the {wanted[0].upper()} images" if job.aoi is None else "the area asked for"
        notes = [] if job.model or classes is not None else [f"model: {card.name}, as none was named"]
        notes.append(f"area: {extent}, {area.width} x {area.height} pixels")
        if "s2" in stacks and job.scl:
            stacks["s2"] = selection.apply_clouds(job, lattice, stacks["s2"], area)
        elif job.scl:
            raise InputError("--scl belongs to Sentinel-2 images: give --s2 too, or drop --scl")
        else:
            for option, value in (
                ("--max-cloud", job.max_cloud),
                ("--mask-clouds", job.mask_clouds or None),
                ("--cloud-classes", job.cloud_classes),
            ):
                if value is not None:
                    raise InputError(f"{option} needs the scene classification: give --scl with its files")
        # Dates without weather are dropped first, so that as many are left as were asked for; else only the dates that
        # are used need weather.
        dropping = job.weather_gaps == "drop-date"
        if around is not None and dropping:
            stacks = around.usable(stacks)
        stacks = {sensor: selection.thin(job, stack) for sensor, stack in stacks.items()}
        if around is not None and not dropping:
            around.usable(stacks)
        for sensor, stack in stacks.items():
            selection.require_overlap(lattice, area, stack, f"{sensor.upper()} images")
            selection.warn_about_series(sensor, stack, warnings)
            warnings.extend(stack.warnings)
            notes.extend(stack.notes)
        if classes is not None:
            classes.warn(job, stacks, warnings)
        if around is not None:
            around.settle(stacks, area, job.edge)
            notes.extend(around.notes)
            warnings.extend(around.warnings)
        beside = () if classes is None else classes.beside(job.output).values()
        files = [stack.files() for stack in stacks.values()] + ([around.files()] if around else [])
        for names in files:
            selection.refuse_inputs(job, names, beside)
        layout: Product = classes or Layout.of(card, wanted, queries, job.dtype)
        dates = {sensor: len(stack.observations) for sensor, stack in stacks.items()}
        fitted = partial(memory.fit, job, card, backend, area, dates, layout, uniform=around is None or around.uniform)
        grid, budget = fitted(warnings)
        plan = Plan(
            job=job,
            card=card,
            backend=backend,
            lattice=lattice,
            area=area,
            grid=grid,
            stacks=stacks,
            layout=layout,
            budget=budget,
            disk=disk_bytes(layout, area, job.format),
            fingerprint="",
            surroundings=around,
            warnings=list(dict.fromkeys(warnings)),
            notes=list(dict.fromkeys(notes)),
        )
        plan.fingerprint = _fingerprint(plan)
        if job.resume and job.block is None:
            _keep_blocks(plan, fitted)
    except BaseException:
        for stack in stacks.values():
            stack.close()
        if around is not None:
            around.close()
        raise
    return plan


def _keep_blocks(plan: Plan, fitted: Callable[..., tuple[BlockGrid, memory.Budget]]) -> None:
    """Takes the sides of the blocks that an interrupted run of the same job finished, where they fit the memory too: it
    may have had other --memory or --threads."""
    sides = scratch.sides_of(plan.job.output, plan.fingerprint)
    if sides is None or sides == plan.grid.core_shape:
        return
    beyond: list[str] = []
    grid, budget = fitted(beyond, block=sides)
    if not beyond and grid.core_shape == sides:
        plan.grid, plan.budget = grid, budget


def check_outputs(job: Job, classes: ClassLayout | None = None) -> None:
    """Refuses an output that cannot be written, before anything is read.

    Args:
        job: the options.
        classes: as of :func:`make_plan`.

    Raises:
        OutputError: folder missing or not writable, output there already, two outputs under one name, or a file of
            somebody else where the scales of int8 go.
    """
    outputs = {"--output": job.output}
    if job.counts:
        outputs["--counts"] = job.counts
    unnamed = companions(job.dtype, job.output) if classes is None else {}
    outputs |= unnamed if classes is None else classes.beside(job.output)
    seen: dict[Path, str] = {}
    for option, path in outputs.items():
        _check_name(job, option, path)
        require_folder(option, path)
        if is_store(path):
            if path.is_symlink() or (path.exists() and owner(path) is None):
                # Whatever is in there, --overwrite is not meant for it.
                raise OutputError(f"{option} {path} is there and no store that embed wrote; give another name")
        elif path.is_dir():
            raise OutputError(f"{option} {path} is a folder; give a file name")
        elif path.exists() and not path.is_file():
            # Nobody may write into a pipe that is opened to see whose it is.
            raise OutputError(f"{option} {path} is a pipe or a device; give a file name")
        if path.exists() and not job.overwrite and not job.resume:
            raise OutputError(f"{option} {path} exists already: give --overwrite to replace it, or another name")
        if option in unnamed and path.exists() and owner(path) is None:
            # Nobody named this file: --overwrite is not meant for it.
            raise OutputError(f"{option} go to {path}, which was not written by embed: give --output another name")
        # Of a link it is the name that is replaced, not what it leads to.
        other = seen.setdefault(path.parent.resolve() / path.name, option)
        if other != option and not is_store(path):
            raise OutputError(f"{option} and {other} are the same file {path}: give them different names")
    if job.format == "vrt":
        mosaic.require_ours(job.output)
    elif job.format == "zarr":
        cube.require()


def _check_name(job: Job, option: str, path: Path) -> None:
    """Raises:
    OutputError: if a name does not end as its format has it.
    """
    suffix = path.suffix.lower()
    if option == "--output":
        if suffix in SUFFIXES[job.format]:
            return
        if job.format not in FILE_FORMATS:
            raise OutputError(
                f"{option} {path}: --format {job.format} needs a name that ends in {SUFFIXES[job.format][0]}"
            )
        for other in FORMATS:
            if suffix in SUFFIXES[other]:
                raise OutputError(
                    f"{option} {path}: --format {job.format} writes GeoTIFF files; give --format {other}, or a name "
                    "that ends in .tif"
                )
    elif suffix in SUFFIXES["gtiff"] or (is_store(path) and job.counts_inside):
        return
    elif job.format == "zarr":
        raise OutputError(f"{option} {path}: give --output's name, {job.output}, or one that ends in .tif")
    raise OutputError(f"{option} {path}: outputs are GeoTIFF files, give a name that ends in .tif")


def disk_bytes(layout: Product, area: Window, format: str) -> int:
    """Bytes at the worst moment: all blocks in scratch and the whole output beside them, uncompressed, in whole tiles.

    A cloud-optimised file is laid out from a plain one; both have a third more for their overviews.
    """
    side = 6 if layout.dtype == "int8" else 2  # counts and scales, per modality
    pixel = layout.bands * layout.storage.itemsize + side * len(layout.sensors)
    file = layout.bands * (2 if layout.dtype == "float16" else layout.storage.itemsize) + side * len(layout.sensors)
    copies = 2 * 4 / 3 if format == "cog" else 1
    pixels = area.pixels if format == "zarr" else padded(area.shape)
    return int(area.pixels * pixel + pixels * file * copies) + (1 << 20)


def check_disk(plan: Plan) -> None:
    """Raises:
    OutputError: if the disk of the output has less space than the run needs, or its folder is gone.
    """
    folder = plan.job.output.absolute().parent
    try:
        # What an earlier run left is part of the need when it is resumed, and deleted when it is not.
        free = shutil.disk_usage(folder).free + scratch.size_of(plan.job.output)
    except FileNotFoundError as error:
        raise OutputError(f"the folder {folder} of the output was there, and is no more: {error.strerror}") from error
    if free < plan.disk:
        raise OutputError(too_full(folder, free, plan.disk))


def too_full(folder: Path, free: int, disk: int) -> str:
    """What there is to say of a disk that lacks the bytes a run needs."""
    return (
        f"{folder} has {free / 1e9:.3f} GB free, the run needs up to {disk / 1e9:.3f} GB: free space, or take --dtype "
        "int8, fewer --queries or a smaller --aoi"
    )


def _fingerprint(plan: Plan) -> str:
    """Identity of a job: equal for runs that give the same numbers, however they are cut or called."""
    job = plan.job
    content: dict[str, Any] = {
        "version": malice_core.__version__,
        "model": plan.card.identity,
        "backend": plan.backend.name,
        "lattice": asdict(plan.lattice),
        "area": asdict(plan.area),
        "options": [job.edge, job.nodata, job.dtype, job.s2_offset],
        "bands": plan.layout.identity,
        "masked": list(job.cloud_classes or bands.CLOUD_CLASSES) if job.mask_clouds else None,
        "observations": {
            sensor: [(item.date.isoformat(), item.orbit) for item in stack.observations]
            for sensor, stack in plan.stacks.items()
        },
        "files": {sensor: [_state(name) for name in stack.files()] for sensor, stack in plan.stacks.items()},
    }
    if plan.surroundings is not None:
        found = plan.surroundings.identity(plan.stacks)
        content["surroundings"] = found | {
            "options": [job.weather_gaps, job.dem, job.dem_nodata, job.angles, job.s2_angles, job.s1_angles],
            "files": [_state(name) for name in found["files"]],
        }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _state(name: str) -> list[Any]:
    """A file's name with its size and time of change, where it is a local file."""
    try:
        status = os.stat(name)
    except OSError:
        return [name]
    return [name, status.st_size, status.st_mtime_ns]


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as plain values, for ``--progress json``."""
    height, width = plan.area.shape
    return {
        "version": malice_core.__version__,
        "model": {"name": plan.card.name, "identity": plan.card.identity, "licence": plan.card.licence},
        "backend": _computes(plan),
        "dask": plan.job.dask,
        "crs": selection.crs_name(plan.lattice),
        "resolution": plan.lattice.res,
        "bounds": list(plan.lattice.bounds(plan.area)),
        "width": width,
        "height": height,
        "bands": plan.layout.bands,
        "dtype": plan.layout.dtype,
        "edge": plan.job.edge,
        "nodata": plan.job.nodata,
        "blocks": plan.grid.count,
        "block": list(plan.grid.core_shape),
        "halo": plan.card.halo,
        "memory_bytes": plan.budget.total,
        "device_memory_bytes": plan.budget.device,
        "disk_bytes": plan.disk,
        "modalities": {sensor: stack.describe() for sensor, stack in plan.stacks.items()},
        "outputs": [str(path) for path in plan.targets],
        "notes": plan.notes,
        "warnings": plan.warnings,
        "fingerprint": plan.fingerprint,
    }


def text(plan: Plan) -> str:
    """The plan for people. Its date lines can be given back with ``--dates @FILE``."""
    height, width = plan.area.shape
    core = plan.grid.core_shape
    lines = [
        f"# model      {plan.card.name} ({plan.card.identity}, {plan.card.licence})",
        f"# computes   {_computes(plan)}",
        f"# area       {width} x {height} pixels of {plan.lattice.res:g} m, {selection.crs_name(plan.lattice)}, "
        f"{selection.bounds_text(plan.lattice, plan.area)}",
        f"# blocks     {plan.grid.count} of {core[0]}x{core[1]} pixels (height x width), halo {plan.card.halo}, "
        f"edge {plan.job.edge}, nodata {plan.job.nodata}",
        f"# memory     at most {plan.budget.total / 1e9:.2f} GB"
        + (f", and {plan.budget.device / 1e9:.2f} GB of the GPU's" if plan.budget.device else "")
        + (", in each process" if plan.job.dask else ""),
        f"# output     {plan.job.output}: {plan.layout.bands} bands {plan.layout.dtype}, "
        f"up to {plan.disk / 1e9:.2f} GB of disk while running",
    ]
    lines += [f"# rule       {note}" for note in plan.notes]
    for sensor, stack in plan.stacks.items():
        lines.append(f"# dates      {len(stack.observations)} {sensor.upper()}")
        lines += _date_lines(sensor, stack)
    return "\n".join(lines)


def _computes(plan: Plan) -> str:
    """What computes: here, or in which processes."""
    where = plan.job.dask
    if where is None:
        return plan.backend.describe()
    if (count := workers.processes(where)) is not None:
        return f"{plan.backend.describe()}, in {'each of ' * (count > 1)}{count} process{'es' * (count > 1)}"
    return f"{plan.backend.name}, on the workers of {where}, with their threads"


def _date_lines(sensor: str, stack: Stack) -> list[str]:
    lines = []
    for item in stack.observations:
        facts = [] if item.cloud_percent is None else [f"cloud {item.cloud_percent:.1f} %"]
        facts.append(", ".join(sorted({Path(file).name for source in item.sources for file in source.rasters})[:3]))
        if len(item.sources) > 1:
            facts[-1] += f" ({len(item.sources)} images)"
        orbit = "" if item.orbit is None else f" orbit {item.orbit}"
        lines.append(f"{sensor.upper()} {item.date}{orbit}  # {', '.join(facts)}")
    return lines
