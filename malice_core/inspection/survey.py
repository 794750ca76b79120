"""What a run would read and why it would leave out the rest: decided by the same functions, but nothing ends it.

What a run refuses is collected, so that one look tells of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

from malice_core import bands, models, selection
from malice_core.cancelling import Cancel
from malice_core.cards import Card
from malice_core.errors import InputError, MaliceError
from malice_core.grid import Lattice, Window
from malice_core.images import clouds
from malice_core.images.observations import Observation
from malice_core.images.tolerance import Tolerance
from malice_core.inspection.rows import Row, constant_bands, left_out, row_of
from malice_core.inspection.shares import Sampling, each
from malice_core.job import Job
from malice_core.reporting import Reporter
from malice_core.stack import Catalog, Stack, discover, matching, shortened
from malice_core.surroundings import inputs
from malice_core.surroundings.inputs import Inputs

#: Percentage points by which an estimated cloud share may be wrong: where --max-cloud is as near, a run may decide
#: otherwise. Clouds are larger than what lies between two points; measured on simulated scenes.
NEAR = 1.0


@dataclass
class Survey:
    """A series, looked at.

    Attributes:
        card: of the model, None where there is none that could be used.
        area: of the run; sampling: which of its pixels were looked at.
        rows: by sensor in the order of a run's bands, then date.
        stacks: what a run would use, by sensor; sensors of which nothing is left are missing.
        period: first and last day that is looked at.
        uniform: as of ``Inputs``.
        refused: what would end a run, in its words.
        warnings, notes: as of a plan.
    """

    job: Job
    card: Card | None
    lattice: Lattice
    area: Window
    sampling: Sampling
    rows: list[Row] = field(default_factory=list)
    stacks: dict[str, Stack] = field(default_factory=dict)
    period: tuple[date, date] = (date.min, date.max)
    uniform: bool = True
    refused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, sensor: str) -> list[Row]:
        return [row for row in self.rows if row.sensor == sensor]

    @property
    def sensors(self) -> list[str]:
        return list(dict.fromkeys(row.sensor for row in self.rows))


#: What an observation is called here, whatever became of it: day and relative orbit.
Key = tuple[date, int | None]


def _key(observation: Observation) -> Key:
    return observation.date, observation.orbit


@dataclass
class _Series:
    """One sensor on its way to what a run uses.

    Attributes:
        whole: all its observations, less what its images say themselves.
        left: observations that are left, None if none is.
        reasons: of the others; unasked: those of them that are of no day that was asked for.
    """

    tolerance: Tolerance
    whole: Stack
    left: Stack | None
    reasons: dict[Key, str] = field(default_factory=dict)
    unasked: set[Key] = field(default_factory=set)

    def step(self, change: Callable[[Stack], Stack], why: Callable[[Observation], str], refused: list[str]) -> None:
        """One choice of a run; if it leaves nothing, what the run says to that is kept."""
        if self.left is None:
            return
        before = self.left
        try:
            self.left = change(before)
        except InputError as error:
            self.left = None
            refused.append(str(error))
        kept = set(map(_key, self.left.observations)) if self.left else set()
        self.reasons |= {_key(one): why(one) for one in before.observations if _key(one) not in kept}


def make(job: Job, exact: bool, reporter: Reporter, cancel: Cancel) -> Survey:
    """Looks at everything a job names.

    Args:
        job: the options of a run; where its output goes does not matter.
        exact: all pixels are looked at, as a run does, however large the area.
        reporter: is told progress.

    Raises:
        InputError: if there are no images, or they cannot be read or placed at all.
        Cancelled: if that was asked for.
    """
    if not job.s2 and not job.s1:
        raise InputError("no images: give --s2 and/or --s1 with files, folders, netCDF files or text lists")
    start, end, _ = selection.parse_dates(job.dates) if job.dates else (None, None, None)
    refused: list[str] = []
    wanted = [sensor for sensor in ("s2", "s1") if getattr(job, sensor)]
    card = _card(job, wanted, refused)
    reporter.progress(0, 100, "reading headers")
    catalogs: dict[str, Catalog] = {}
    tolerances = {sensor: Tolerance() for sensor in wanted}
    try:
        for sensor in wanted:
            cancel.check()
            orbit = job.s1_orbit if sensor == "s1" else None
            paths, tolerance = getattr(job, sensor), tolerances[sensor]
            catalogs[sensor] = discover(sensor, paths, s2_offset=job.s2_offset, orbit=orbit, tolerance=tolerance)
            refused += tolerance.refused
        lattice = catalogs[wanted[0]].lattice(job.resolution)
        wholes = {sensor: catalog.on(lattice) for sensor, catalog in catalogs.items()}
        series = {sensor: _Series(tolerances[sensor], stack, stack) for sensor, stack in wholes.items()}
        survey = _chosen(job, card, lattice, series, exact, refused)
        _clouds(survey, series, reporter, cancel)
        _thinned(survey, series)
        _rows(survey, series, reporter, cancel)
        dates = [row.date for row in survey.rows]
        survey.period = start or min(dates), end or max(dates)
        survey.warnings += constant_bands((one.whole, one.tolerance) for one in series.values())
        for name in ("warnings", "notes", "refused"):
            setattr(survey, name, list(dict.fromkeys(getattr(survey, name))))
        return survey
    finally:
        for catalog in catalogs.values():
            catalog.close()


def _card(job: Job, wanted: list[str], refused: list[str]) -> Card | None:
    """The model, None where a run would refuse it."""
    try:
        card = models.load(job.model) if job.model else models.default()
        for sensor in wanted:
            if sensor not in card.modalities:
                have = ", ".join(key.upper() for key in card.modalities)
                raise InputError(f"model {card.name} has no {sensor.upper()} encoder (it has {have}): drop --{sensor}")
        inputs.refuse(job, card, wanted)
    except InputError as error:
        refused.append(str(error))
        return None
    return card


def _chosen(
    job: Job, card: Card | None, lattice: Lattice, series: Mapping[str, _Series], exact: bool, refused: list[str]
) -> Survey:
    """The dates that were asked for, and the area."""
    warnings = [line for line in (models.caution(card) if card else "",) if line]
    notes: list[str] = []
    unasked = f"{'not in' if (job.dates or '').startswith('@') else 'outside'} --dates {job.dates}"
    for sensor, one in series.items():
        one.step(partial(selection.choose_dates, job, sensor=sensor), lambda _: unasked, refused)
        one.unasked = set(one.reasons)
    first = next(iter(series.values()))
    reference = first.left or first.whole
    try:
        area = selection.area_of(job, lattice, reference, warnings)
    except InputError as error:
        if job.aoi is not None:
            raise
        refused.append(str(error))
        area = reference.extent
    for sensor, one in series.items():
        if one.left is not None:
            try:
                selection.require_overlap(lattice, area, one.left, f"{sensor.upper()} images")
            except InputError as error:
                refused.append(str(error))
    survey = Survey(job, card, lattice, area, Sampling.of(lattice, area, exact))
    survey.refused, survey.warnings, survey.notes = refused, warnings, notes
    return survey


def _clouds(survey: Survey, series: Mapping[str, _Series], reporter: Reporter, cancel: Cancel) -> None:
    """Cloud shares, and the choice by them."""
    job = survey.job
    one = series.get("s2")
    if job.scl and one is None:
        survey.refused.append("--scl belongs to Sentinel-2 images: give --s2 too, or drop --scl")
        return
    if not job.scl or one is None:
        for option, value in (
            ("--max-cloud", job.max_cloud),
            ("--mask-clouds", job.mask_clouds or None),
            ("--cloud-classes", job.cloud_classes),
        ):
            if value is not None:
                survey.refused.append(f"{option} needs the scene classification: give --scl with its files")
        return
    if one.left is None:
        return
    classes = clouds.checked(job.cloud_classes or bands.CLOUD_CLASSES)
    try:
        with discover("scl", job.scl).on(survey.lattice) as scl:
            needed = sorted({i for observation in one.left.observations for i in matching(scl, observation)})
            ticks = _Ticks(reporter, len(needed), "looking at clouds", 10, 40)
            counting = partial(survey.sampling.count, scl, area=survey.area, classes=classes)
            found = each(counting, needed, cancel.check, ticks.tick)
            one.left = clouds.with_shares(one.left, scl, survey.area, classes, lambda _, i, *__: found[i])
    except InputError as error:
        survey.refused.append(str(error))
        return
    known = {_key(o): o.cloud_percent for o in one.left.observations}
    shared = tuple(replace(o, cloud_percent=known.get(_key(o))) for o in one.whole.observations)
    one.whole = replace(one.whole, observations=shared)
    limit = job.max_cloud
    if limit is None:
        return
    if survey.sampling.step > 1:
        near = [o.title for o in one.left.observations if abs((known[_key(o)] or 0.0) - limit) <= NEAR]
        if near:
            survey.warnings.append(
                f"{one.whole.sensor.title}: the cloud shares of {shortened(near)} are so near --max-cloud {limit:g} "
                "that a run, which counts all pixels, may decide otherwise; --exact counts them here too"
            )
    one.step(
        lambda stack: clouds.clear_enough(stack, limit, classes),
        lambda o: f"cloud {known[_key(o)]:.1f} % > {limit:g} %",
        survey.refused,
    )


def _thinned(survey: Survey, series: Mapping[str, _Series]) -> None:
    """Weather, --max-dates, and what there is to say of the series; the order is that of a plan."""
    job, card = survey.job, survey.card
    around = None
    if card is not None and card.surroundings is not None and all(one.left for one in series.values()):
        try:
            around = Inputs.open(job, card, survey.lattice, list(series))
        except InputError as error:
            survey.refused.append(str(error))
    try:
        if around is not None and job.weather_gaps == "drop-date":
            _weather(survey, series, around)
        for one in series.values():
            one.step(
                lambda s: selection.thin(job, s), lambda _: f"thinned to --max-dates {job.max_dates}", survey.refused
            )
        if around is not None:
            if job.weather_gaps != "drop-date":
                _weather(survey, series, around)
            stacks = {sensor: one.left for sensor, one in series.items() if one.left is not None}
            try:
                around.settle(stacks, survey.area, job.edge)
            except MaliceError as error:
                survey.refused.append(str(error))
            survey.notes += around.notes
            survey.warnings += around.warnings
            survey.uniform = around.uniform
    finally:
        if around is not None:
            around.close()
    for sensor, one in series.items():
        if one.left is not None:
            selection.warn_about_series(sensor, one.left, survey.warnings)
            survey.stacks[sensor] = one.left
        stack = one.left or one.whole
        survey.warnings += stack.warnings
        survey.notes += stack.notes


def _weather(survey: Survey, series: Mapping[str, _Series], around: Inputs) -> None:
    """Leaves out the dates without weather, where that was asked for."""
    stacks = {sensor: one.left for sensor, one in series.items() if one.left is not None}
    try:
        usable = around.usable(stacks)
    except InputError as error:
        survey.refused.append(str(error))
        return
    for sensor, stack in usable.items():
        series[sensor].step(partial(_replaced, stack), lambda _: "no weather of its days", survey.refused)


def _replaced(stack: Stack, _: Stack) -> Stack:
    return stack


class _Ticks:
    """Progress of one step, as part of the whole in percent."""

    def __init__(self, reporter: Reporter, count: int, step: str, first: int, last: int) -> None:
        self._reporter, self._count, self._step = reporter, max(count, 1), step
        self._first, self._last, self._done = first, last, 0
        reporter.progress(first, 100, step)

    def tick(self) -> None:
        self._done += 1
        share = self._done / self._count
        self._reporter.progress(int(self._first + share * (self._last - self._first)), 100, self._step)


def _rows(survey: Survey, series: Mapping[str, _Series], reporter: Reporter, cancel: Cancel) -> None:
    """The table: what is used or was left out by choice first by date, with those whose images are not taken."""
    count = sum(len(one.whole.observations) for one in series.values())
    ticks = _Ticks(reporter, count, "looking at images", 40, 90)
    for one in series.values():
        used = set(map(_key, one.left.observations)) if one.left else set()
        # What is of no day that was asked for is not looked at.
        looked = [i for i, o in enumerate(one.whole.observations) if _key(o) not in one.unasked]
        valid = each(partial(survey.sampling.valid, one.whole), looked, cancel.check, ticks.tick)
        rows = []
        for i, o in enumerate(one.whole.observations):
            row = row_of(one.whole.sensor, one.tolerance, o, _key(o) in used, one.reasons.get(_key(o), ""))
            rows.append(replace(row, valid=valid.get(i)))
        rows += left_out(one.whole, one.tolerance)
        survey.rows += sorted(rows, key=lambda row: (row.date, row.orbit or 0, not row.used))
