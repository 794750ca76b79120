"""A report as a page: one file without script that needs no network, and prints."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import PurePath

import malice_core
from malice_core import selection
from malice_core.bands import SENSORS
from malice_core.inspection import charts
from malice_core.inspection.estimating import Estimate
from malice_core.inspection.gaps import Gaps
from malice_core.inspection.rows import Row
from malice_core.inspection.survey import Survey
from malice_core.inspection.tables import duration, figures, size

#: Plain rules that old viewers know too; colours as in the plots.
STYLE = """
body { font-family: "Segoe UI", "Helvetica Neue", Helvetica, Arial, sans-serif; font-size: 15px; line-height: 1.5;
  color: #2b2b2b; background: #ffffff; max-width: 960px; margin: 2.2em auto 4em; padding: 0 1.2em; }
h1 { font-size: 1.75em; font-weight: 600; margin: 0 0 .1em; }
h2 { font-size: 1.15em; font-weight: 600; margin: 2.3em 0 .6em; padding-bottom: .25em;
  border-bottom: 1px solid #d9d9d4; }
p.lead { color: #5c5c5c; margin: 0 0 1.4em; }
p.small, li.small, .caption { color: #6a6a6a; font-size: .87em; }
table { border-collapse: collapse; width: 100%; }
table.figures { width: auto; } table.figures td { padding: .15em 1.6em .15em 0; vertical-align: top; }
table.figures td:first-child { color: #6a6a6a; white-space: nowrap; }
table.keys { table-layout: fixed; margin: .4em 0 0; }
table.keys td { background: #f5f5f2; border-right: 10px solid #fff; padding: .7em .9em; vertical-align: top; }
table.keys td:last-child { border-right: 0; }
table.keys b { display: block; font-size: 1.45em; font-weight: 600; line-height: 1.25; }
table.keys span { color: #6a6a6a; font-size: .85em; }
table.dates { font-size: .86em; } table.dates thead { display: table-header-group; }
table.dates th { text-align: left; font-weight: 600; border-bottom: 1.5px solid #2b2b2b; padding: .35em .7em .35em 0; }
table.dates td { border-bottom: 1px solid #ececec; padding: .28em .7em .28em 0; vertical-align: top; }
table.dates tr { page-break-inside: avoid; }
table.dates tr.out td { color: #8a8a86; } table.dates td.n, table.dates th.n { text-align: right; white-space: nowrap; }
table.dates td.file { word-break: break-all; } table.dates td.d { white-space: nowrap; }
.chip { font-size: .85em; font-weight: 600; padding: 0 .45em; border: 1px solid; border-radius: 3px; }
.s2 { color: #1f6f5c; } .s1 { color: #8a4b1f; }
.told { border-left: 5px solid; padding: .55em 1em; margin: .5em 0; background: #fafaf8; }
.refused { border-color: #a61b1b; } .refused b { color: #a61b1b; }
.warning { border-color: #c98a00; } .good { border-color: #1f6f5c; }
svg { display: block; width: 100%; height: auto; margin: .3em 0 .2em; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { page-break-after: avoid; } }
"""


def page(survey: Survey, gaps: dict[str, Gaps], estimate: Estimate | None) -> str:
    """The whole page."""
    height, width = survey.area.shape
    res = survey.lattice.res
    lead = (
        f"{survey.period[0]} to {survey.period[1]} · {width} × {height} pixels of {res:g} m "
        f"({width * height * res * res / 1e6:,.2f} km²) · {selection.crs_name(survey.lattice)}"
    )
    parts = [
        f"<h1>Image series</h1>\n<p class='lead'>{escape(lead)}</p>",
        _verdict(survey),
        _keys(survey, gaps, estimate),
        "<h2>Observations per month</h2>",
        charts.per_month(survey),
        "<h2>Calendar of dates and clouds</h2>",
        charts.cloud_calendar(survey),
        _gaps(gaps),
        _warnings(survey),
        _estimate(estimate),
        "<h2>Dates</h2>",
        _dates(survey),
        _method(survey),
    ]
    title = f"Image series {survey.period[0]} to {survey.period[1]}"
    body = "\n".join(filter(None, parts))
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>\n<style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _told(kind: str, lines: Iterable[str]) -> str:
    return "\n".join(f"<div class='told {kind}'>{line}</div>" for line in lines)


def _verdict(survey: Survey) -> str:
    """The first thing to know: whether it would run."""
    if survey.refused:
        head = "<b>A run with these images and options would be refused.</b>"
        return _told("refused", [head, *map(escape, survey.refused)])
    used = ", ".join(f"{len(stack.observations)} dates of {stack.sensor.title}" for stack in survey.stacks.values())
    more = f" {_count(len(survey.warnings), 'warning')} below." if survey.warnings else ""
    return _told("good", [f"Ready to be embedded: {escape(used)}.{more}"])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _keys(survey: Survey, gaps: dict[str, Gaps], estimate: Estimate | None) -> str:
    cells = []
    for sensor, found in gaps.items():
        rows = survey.of(sensor)
        used = sum(row.used for row in rows)
        cells.append((f"{used} of {len(rows)}", f"{SENSORS[sensor].title} dates used"))
        cells.append((f"{found.days} days" if found.longest else "–", f"longest gap, {sensor.upper()}"))
    if estimate is not None:
        if estimate.seconds is not None:
            cells.append((duration(estimate.seconds), "to compute, about"))
        cells.append((size(estimate.disk), "of disk while running, at most"))
    row = "".join(f"<td><b>{escape(value)}</b><span>{escape(what)}</span></td>" for value, what in cells)
    return f"<table class='keys'><tr>{row}</tr></table>"


def _gaps(gaps: dict[str, Gaps]) -> str:
    lines = []
    for sensor, found in gaps.items():
        chip = _chip(sensor)
        longest = (
            f"longest time without a usable observation: {found.days} days, {found.longest[0]} to {found.longest[1]}"
            if found.longest
            else "fewer than two usable observations"
        )
        empty = f"; months without any: {', '.join(found.empty)}" if found.empty else "; no month without any"
        lines.append(f"<p>{chip} {escape(longest + empty)}.</p>")
    return "<h2>Gaps</h2>\n" + "\n".join(lines)


def _chip(sensor: str) -> str:
    return f"<span class='chip {sensor}'>{sensor.upper()}</span>"


def _warnings(survey: Survey) -> str:
    if not survey.warnings:
        return "<h2>Warnings</h2>\n<p>None: units, offsets, grids and dates look as they should.</p>"
    return "<h2>Warnings</h2>\n" + _told("warning", map(escape, survey.warnings))


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "<h2>What a run takes</h2>\n<p>Not known, because a run would be refused.</p>"
    rows = "".join(f"<tr><td>{escape(what)}</td><td>{escape(how)}</td></tr>" for what, how in figures(estimate))
    return f"<h2>What a run takes</h2>\n<table class='figures'>{rows}</table>"


def _dates(survey: Survey) -> str:
    """The table; columns of which nothing is known are left out."""
    orbits = any(row.orbit is not None for row in survey.rows)
    baselines = any(row.baseline for row in survey.rows)
    clouds = any(row.cloud is not None for row in survey.rows)
    heads = [("", "Sensor"), ("d", "Date")]
    heads += [("n", "Orbit")] * orbits + [("n", "Baseline")] * baselines + [("n", "Cloud")] * clouds
    heads += [("n", "Valid"), ("n", "Values 2–98 %"), ("d", "Bands, pixels"), ("", "Use"), ("file", "Files")]
    lines = ["".join(f"<th class='{kind}'>{name}</th>" for kind, name in heads)]
    body = []
    for row in survey.rows:
        cells = [_chip(row.sensor), f"{row.date}"]
        cells += [_orbit(row)] * orbits + [escape(row.baseline)] * baselines + [_percent(row.cloud)] * clouds
        pixels = " + ".join(f"{one:g}" for one in row.pixels)
        use = "used" if row.used else f"left out: {escape(row.reason)}"
        cells += [_percent(row.valid), _values(row), f"{len(row.bands)}, {pixels} m", use, _files(row)]
        filled = "".join(f"<td class='{kind}'>{cell}</td>" for (kind, _), cell in zip(heads, cells, strict=True))
        body.append(f"<tr class='{'in' if row.used else 'out'}'>{filled}</tr>")
    kinds = [SENSORS[sensor] for sensor in survey.sensors]
    units = "; ".join(f"{kind.key.upper()}: {' '.join(kind.bands)}, {kind.unit}" for kind in kinds)
    return (
        f"<table class='dates'><thead><tr>{lines[0]}</tr></thead>\n<tbody>\n{chr(10).join(body)}\n</tbody></table>\n"
        f"<p class='caption'>{escape(units)}.</p>"
    )


def _orbit(row: Row) -> str:
    sign = {"ascending": "↑", "descending": "↓"}.get(row.direction, "")
    return f"{'–' if row.orbit is None else row.orbit}{sign}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} %"


def _values(row: Row) -> str:
    if row.low is None or row.high is None:
        return "–"
    return f"{row.low:.0f} … {row.high:.0f}" if row.sensor == "s2" else f"{row.low:.3g} … {row.high:.3g}"


def _files(row: Row) -> str:
    names = [PurePath(file).name for file in row.files]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"<span title='{escape('; '.join(row.files), quote=True)}'>{escape(names[0])}</span>{more}"


def _method(survey: Survey) -> str:
    rules = "".join(f"<li class='small'>{escape(note)}</li>" for note in survey.notes)
    sampled = (
        "Cloud and valid shares are counted over all pixels of the area, as a run does."
        if survey.sampling.step == 1
        else f"Cloud and valid shares are estimates from {survey.sampling.describe()} (overviews where files have "
        "them); a run counts all pixels."
    )
    return (
        f"<h2>Rules and method</h2>\n<ul>{rules}<li class='small'>{escape(sampled)}</li>"
        "<li class='small'>Values are the 2nd and 98th percentile of all bands in a sample of each image.</li>"
        f"</ul>\n<p class='small'>malice_core {malice_core.__version__}. "
        "Contains modified Copernicus Sentinel data.</p>"
    )
