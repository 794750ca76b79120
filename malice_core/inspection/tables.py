"""A report as plain values (json), as a table (CSV), and as lines for a terminal."""

from __future__ import annotations

import csv
import io
from typing import Any

import malice_core
from malice_core import selection
from malice_core.bands import SENSORS
from malice_core.inspection.estimating import FASTER, SLOWER, Estimate
from malice_core.inspection.gaps import Gaps
from malice_core.inspection.rows import Row
from malice_core.inspection.survey import Survey

#: Columns of the CSV and of QGIS' table layer.
COLUMNS = (
    *("sensor", "date", "orbit", "direction", "baseline", "used", "reason", "cloud_percent", "valid_percent"),
    *("low", "high", "bands", "pixel_sizes", "crs", "files"),
)


def record(row: Row) -> dict[str, Any]:
    """A row as plain values, by :data:`COLUMNS`."""
    return {
        "sensor": row.sensor.upper(),
        "date": row.date.isoformat(),
        "orbit": row.orbit,
        "direction": row.direction,
        "baseline": row.baseline,
        "used": row.used,
        "reason": row.reason,
        "cloud_percent": _rounded(row.cloud),
        "valid_percent": _rounded(row.valid),
        "low": _rounded(row.low, 6),
        "high": _rounded(row.high, 6),
        "bands": list(row.bands),
        "pixel_sizes": list(row.pixels),
        "crs": list(row.crs),
        "files": list(row.files),
    }


def _rounded(number: float | None, digits: int = 2) -> float | None:
    return None if number is None else round(number, digits)


def as_json(survey: Survey, gaps: dict[str, Gaps], estimate: Estimate | None) -> dict[str, Any]:
    """The whole report; ``docs/inspect.md`` explains it."""
    height, width = survey.area.shape
    return {
        "version": malice_core.__version__,
        "model": None if survey.card is None else {"name": survey.card.name, "identity": survey.card.identity},
        "crs": selection.crs_name(survey.lattice),
        "resolution": survey.lattice.res,
        "bounds": list(survey.lattice.bounds(survey.area)),
        "width": width,
        "height": height,
        "looked_at": survey.sampling.describe(),
        "period": [day.isoformat() for day in survey.period],
        "sensors": {
            sensor: {
                "title": SENSORS[sensor].title,
                "bands": list(SENSORS[sensor].bands),
                "unit": SENSORS[sensor].unit,
                "dates": len(survey.of(sensor)),
                "used": sum(row.used for row in survey.of(sensor)),
                "longest_gap_days": found.days,
                "longest_gap": [day.isoformat() for day in found.longest] if found.longest else None,
                "months_without": list(found.empty),
            }
            for sensor, found in gaps.items()
        },
        "estimate": None if estimate is None else _estimate(estimate),
        "refused": survey.refused,
        "warnings": survey.warnings,
        "notes": survey.notes,
        "dates": [record(row) for row in survey.rows],
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "memory_bytes": estimate.memory,
        "device_memory_bytes": estimate.device,
        "disk_bytes": estimate.disk,
        "free_bytes": estimate.free,
        "blocks": estimate.blocks,
        "block": list(estimate.block),
        "pixel_dates": estimate.pixel_dates,
        "seconds": _rounded(estimate.seconds, 1),
        "trial": estimate.trial,
    }


def as_csv(survey: Survey) -> str:
    """One line a date; lists have blanks (bands, pixel sizes) or semicolons (CRSs, files) between."""
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in survey.rows:
        values = record(row)
        values |= {name: " ".join(map(_plain, values[name])) for name in ("bands", "pixel_sizes")}
        values |= {name: ";".join(values[name]) for name in ("crs", "files")}
        writer.writerow(values | {"used": "yes" if row.used else "no"})
    return target.getvalue()


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """``about`` so long, as coarse as an estimate is: ``2 h 10 min``, ``14 min``, ``50 s``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours / 24:.1f} days"


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.1f} MB"


def figures(estimate: Estimate) -> list[tuple[str, str]]:
    """(what, how much) a run would take."""
    found = [("memory", f"at most {size(estimate.memory)}")]
    if estimate.device:
        found.append(("memory of the GPU", f"at most {size(estimate.device)}"))
    free = "" if estimate.free is None else f" (free: {size(estimate.free)})"
    found.append(("disk while running", f"up to {size(estimate.disk)}{free}"))
    if estimate.seconds is None:
        found.append(("time", estimate.trial))
    else:
        low, high = duration(FASTER * estimate.seconds), duration(SLOWER * estimate.seconds)
        told = f"about {duration(estimate.seconds)}, {low} to {high}, if nothing else computes; reading comes on top"
        found += [("time to compute", told), ("how that is known", estimate.trial)]
    down, right = estimate.block
    found.append(("work", f"{estimate.pixel_dates / 1e6:.3g} million pixel-dates"))
    found.append(("blocks", f"{estimate.blocks} of {down} x {right} pixels (height x width)"))
    return found


def as_text(survey: Survey, gaps: dict[str, Gaps], estimate: Estimate | None) -> str:
    """For a terminal."""
    height, width = survey.area.shape
    lines = [
        f"area       {width} x {height} pixels of {survey.lattice.res:g} m, {selection.crs_name(survey.lattice)}, "
        f"{selection.bounds_text(survey.lattice, survey.area)}",
        f"period     {survey.period[0]} to {survey.period[1]}",
        f"looked at  {survey.sampling.describe()}",
    ]
    for sensor, found in gaps.items():
        rows = survey.of(sensor)
        used = sum(row.used for row in rows)
        lines.append(f"{sensor.upper()}         {used} of {len(rows)} dates used")
        if found.longest is not None:
            lines.append(f"           longest gap {found.days} days, {found.longest[0]} to {found.longest[1]}")
        if found.empty:
            lines.append(f"           months without any: {', '.join(found.empty)}")
    if estimate is not None:
        lines += [f"{what:<20} {how}" for what, how in figures(estimate)]
    for row in survey.rows:
        cloud = "" if row.cloud is None else f"cloud {row.cloud:.0f} %"
        valid = "" if row.valid is None else f"valid {row.valid:.0f} %"
        orbit = "" if row.orbit is None else f"orbit {row.orbit}"
        told = "used" if row.used else row.reason
        lines.append(f"{row.sensor.upper()} {row.date}  {orbit:<9}  {cloud:<11}  {valid:<11}  {told}".rstrip())
    return "\n".join(lines)
