"""The plots of a report as SVG: observations per month, and a calendar of clouds. No script, no font, no network.

Colours are told apart in grey too: what is used is dark, what is left out is light with an outline, clear sky is darker
than cloud.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from datetime import date
from html import escape

from malice_core.bands import SENSORS
from malice_core.inspection.gaps import months
from malice_core.inspection.rows import Row
from malice_core.inspection.survey import Survey

#: Of observations that are used, by sensor; and, of those that are not, the fill.
COLOURS = {"s2": "#1f6f5c", "s1": "#8a4b1f"}
LIGHT = {"s2": "#dcebe6", "s1": "#f2e4d8"}
#: From a clear sky to clouds all over.
CLEAR, CLOUDY = (0x12, 0x4E, 0x8C), (0xCB, 0xCB, 0xC6)
INK, FAINT = "#333333", "#d5d5d0"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Width of a plot, and of its margin for labels on the left.
WIDTH, LEFT = 920, 60


def text(x: float, y: float, words: str, *, size: int = 11, anchor: str = "start", fill: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{escape(words)}</text>'
    )


def rect(x: float, y: float, width: float, height: float, fill: str, title: str = "", stroke: str = "none") -> str:
    told = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="0.7">{told}</rect>'
    )


def line(x1: float, y1: float, x2: float, y2: float, stroke: str = FAINT) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" stroke-width="1"/>'


def picture(height: float, parts: Iterable[str], label: str) -> str:
    """A whole plot."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}" font-family="Helvetica, Arial, sans-serif">{"".join(parts)}</svg>'
    )


def per_month(survey: Survey) -> str:
    """Bars of the observations of each month, one panel a sensor: used below, left out above."""
    span = list(months(*survey.period))
    step = (WIDTH - LEFT - 10) / len(span)
    panel, top = 120.0, 26.0
    parts: list[str] = []
    for number, sensor in enumerate(survey.sensors):
        base = top + panel + number * (panel + 66)
        parts += _panel(survey.of(sensor), sensor, span, step, base, panel)
    return picture(top + len(survey.sensors) * (panel + 66) - 20, parts, "Observations per month")


def _panel(
    rows: Sequence[Row], sensor: str, span: Sequence[tuple[int, int]], step: float, base: float, panel: float
) -> list[str]:
    counts = {when: [0, 0] for when in span}
    for row in rows:
        if (when := (row.date.year, row.date.month)) in counts:
            counts[when][0 if row.used else 1] += 1
    most = max(max(map(sum, counts.values())), 1)
    tick = next(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, most) if most <= 5 * size or size == most)
    scale = panel / (-(-most // tick) * tick)
    parts = [text(LEFT, base - panel - 12, SENSORS[sensor].title, size=13)]
    for x, words, fill in ((WIDTH - 132.0, "used", COLOURS[sensor]), (WIDTH - 74.0, "left out", LIGHT[sensor])):
        parts += [rect(x, base - panel - 21, 9, 9, fill, stroke=COLOURS[sensor])]
        parts += [text(x + 14, base - panel - 12, words)]
    for value in range(0, -(-most // tick) * tick + 1, tick):
        y = base - value * scale
        parts += [line(LEFT, y, WIDTH - 10, y), text(LEFT - 8, y + 4, str(value), anchor="end")]
    # With many months only every third has a name.
    named = 1 if step >= 22 else 3
    for i, (year, month) in enumerate(span):
        x, (used, left) = LEFT + i * step, counts[year, month]
        thick = min(step * 0.72, 46)
        begin = x + (step - thick) / 2
        title = f"{MONTHS[month - 1]} {year}: {used} used, {left} left out"
        if used:
            parts.append(rect(begin, base - used * scale, thick, used * scale, COLOURS[sensor], title))
        if left:
            above = base - (used + left) * scale
            parts.append(rect(begin, above, thick, left * scale, LIGHT[sensor], title, COLOURS[sensor]))
        if (month - 1) % named == 0:
            name = MONTHS[month - 1] if step >= 30 else MONTHS[month - 1][0]
            parts.append(text(x + step / 2, base + 15, name, anchor="middle"))
        if month == 1 or i == 0:
            parts.append(text(x + 2, base + 30, str(year), fill="#666666"))
            if i:
                parts.append(line(x, base, x, base + 32))
    parts.append(line(LEFT, base, WIDTH - 10, base, INK))
    return parts


def cloud_colour(percent: float) -> str:
    """From dark blue (0 %, a clear sky) to light grey (100 %)."""
    share = min(max(percent / 100, 0.0), 1.0)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(CLEAR, CLOUDY, strict=True))


def cloud_calendar(survey: Survey) -> str:
    """A row a year, a cell a date: Sentinel-2 by its cloud share, and below it a mark for each date of Sentinel-1.

    Dates that are left out have low cells.
    """
    years = range(survey.period[0].year, survey.period[1].year + 1)
    optical, radar = survey.of("s2"), survey.of("s1")
    high, low, mark = 36.0, 15.0, 10.0
    row = (high + 6 if optical else 0) + (mark + 6 if radar else 0) + 12
    day = (WIDTH - LEFT - 10) / 366
    top = 30.0
    parts = _legend(optical, radar)
    for number, year in enumerate(years):
        y = top + 22 + number * row
        parts.append(text(LEFT - 8, y + (high if optical else mark) / 2 + 4, str(year), anchor="end", size=12))
        end = y + row - 12
        for month in range(1, 13):
            x = LEFT + (date(year, month, 1) - date(year, 1, 1)).days * day
            parts.append(line(x, y - 3, x, end))
            if number == 0:
                middle = x + calendar.monthrange(year, month)[1] * day / 2
                parts.append(text(middle, top + 10, MONTHS[month - 1], anchor="middle"))
        parts.append(line(WIDTH - 10, y - 3, WIDTH - 10, end))
        for item in optical:
            if item.date.year == year:
                tall = high if item.used else low
                fill = "#ffffff" if item.cloud is None else cloud_colour(item.cloud)
                parts.append(rect(_x(item, day), y + high - tall, day * 2.4, tall, fill, _told(item), "#7a8794"))
        below = y + (high + 6 if optical else 0)
        for item in radar:
            if item.date.year == year:
                fill = COLOURS["s1"] if item.used else LIGHT["s1"]
                parts.append(rect(_x(item, day), below, day * 2.4, mark, fill, _told(item), COLOURS["s1"]))
    return picture(top + 22 + len(years) * row, parts, "Calendar of dates and clouds")


def _legend(optical: Sequence[Row], radar: Sequence[Row]) -> list[str]:
    parts, x = [], float(LEFT)
    if optical:
        parts.append(text(x, 14, "Sentinel-2, cloud:"))
        x += 100
        for percent in range(0, 101, 10):
            parts.append(rect(x, 5, 12, 11, cloud_colour(percent)))
            x += 12
        parts += [text(x - 132, 26, "0 %", size=9), text(x, 26, "100 %", size=9, anchor="end")]
        x += 14
        parts += [rect(x, 5, 5, 11, "#ffffff", stroke="#7a8794"), text(x + 10, 14, "not known")]
        x += 80
        parts += [rect(x, 5, 5, 11, cloud_colour(30)), rect(x + 8, 11, 5, 5, cloud_colour(30))]
        parts.append(text(x + 18, 14, "used; low: left out"))
        x += 136
    if radar:
        parts += [rect(x, 7, 5, 8, COLOURS["s1"]), text(x + 10, 14, "Sentinel-1, used")]
        x += 108
        parts += [rect(x, 7, 5, 8, LIGHT["s1"], stroke=COLOURS["s1"]), text(x + 10, 14, "left out")]
    return parts


def _x(item: Row, day: float) -> float:
    return LEFT + ((item.date - date(item.date.year, 1, 1)).days + 0.5) * day - day * 1.2


def _told(item: Row) -> str:
    cloud = "" if item.cloud is None else f", cloud {item.cloud:.0f} %"
    return f"{item.date}{cloud}, {item.reason or 'used'}"
