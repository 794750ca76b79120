"""Pictures of a report as SVG that stands in the page: where the folds are, and observed against predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

#: Colours of folds (Okabe and Ito's, safe for colour-blind readers, then tints of them).
FOLDS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c00", "#7a5195", "#4d4d4d", "#b15928")
#: Dots drawn at most.
DOTS = 3000


def fold_colour(number: int) -> str:
    """Of a fold, from 0."""
    return FOLDS[number % len(FOLDS)]


def fold_map(folds: dict[str, Any], width: int = 640, most: int = 560) -> str:
    """The squares of all folds and the places in them, north up.

    Args:
        folds: ``squares`` (x, y, fold), ``places`` (x, y, fold), ``side`` in units of the CRS, ``metres``.
        width, most: of the picture, and its largest height, in pixels.
    """
    side, squares = folds["side"], folds["squares"]
    left, right = min(one[0] for one in squares) * side, (max(one[0] for one in squares) + 1) * side
    bottom, top = min(one[1] for one in squares) * side, (max(one[1] for one in squares) + 1) * side
    scale = min(width / (right - left), most / (top - bottom))
    wide, high = (right - left) * scale, (top - bottom) * scale
    parts = [
        f'<svg viewBox="-1 -1 {wide + 2:.0f} {high + 34:.0f}" role="img" aria-label="Map of the folds" '
        f'style="max-width:{wide + 2:.0f}px">'
    ]
    size = side * scale
    for x, y, fold in squares:
        parts.append(
            f'<rect x="{x * size - left * scale:.1f}" y="{top * scale - (y + 1) * size:.1f}" width="{size:.1f}" '
            f'height="{size:.1f}" fill="{fold_colour(fold)}" fill-opacity=".22" stroke="{fold_colour(fold)}" '
            f'stroke-opacity=".6"><title>fold {fold + 1}</title></rect>'
        )
    places = folds["places"]
    step = -(-len(places) // DOTS)
    radius = 3 if len(places) < 300 else 2
    for x, y, fold in places[::step]:
        parts.append(
            f'<circle cx="{(x - left) * scale:.1f}" cy="{(top - y) * scale:.1f}" r="{radius}" '
            f'fill="{fold_colour(fold)}"/>'
        )
    parts.append(
        f'<path d="M0 {high + 12:.1f}v6h{size:.1f}v-6" fill="none" stroke="currentColor"/>'
        f'<text x="{size / 2:.1f}" y="{high + 31:.0f}" text-anchor="{"middle" if size > 60 else "start"}" '
        f'font-size="12" fill="currentColor">{_metres(folds["metres"])}</text></svg>'
    )
    return "".join(parts)


def _metres(value: float) -> str:
    return f"{value / 1000:g} km" if value >= 1000 else f"{value:g} m"


def scatter(pairs: Sequence[Sequence[float]], name: str, side: int = 440) -> str:
    """Predicted against observed, with the line on which both are equal.

    Args:
        pairs: (observed, predicted).
        name: of what was predicted.
        side: of the picture, pixels.
    """
    values = [value for pair in pairs for value in pair]
    ticks = nice_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]
    edge, plot = 56, side - 72

    def x(value: float) -> float:
        return edge + (value - low) / (high - low) * plot

    def y(value: float) -> float:
        return 12 + plot - (value - low) / (high - low) * plot

    parts = [
        f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="Observed and predicted" style="max-width:{side}px" '
        'font-size="12" fill="currentColor">',
        f'<rect x="{edge}" y="12" width="{plot}" height="{plot}" fill="none" stroke="currentColor" '
        'stroke-opacity=".3"/>',
    ]
    for tick in ticks:
        parts.append(
            f'<path d="M{x(tick):.1f} {12 + plot}v5M{edge} {y(tick):.1f}h-5" stroke="currentColor" '
            'stroke-opacity=".5"/>'
            f'<text x="{x(tick):.1f}" y="{plot + 31}" text-anchor="middle">{tick:g}</text>'
            f'<text x="{edge - 9}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for observed, predicted in pairs:
        parts.append(
            f'<circle cx="{x(observed):.1f}" cy="{y(predicted):.1f}" r="2.4" fill="#0072b2" fill-opacity=".35"/>'
        )
    label = escape(name)
    parts.append(
        f'<path d="M{x(low):.1f} {y(low):.1f}L{x(high):.1f} {y(high):.1f}" stroke="currentColor" '
        'stroke-dasharray="5 4" stroke-opacity=".7"/>'
        f'<text x="{edge + plot / 2:.0f}" y="{side - 6}" text-anchor="middle">observed {label}</text>'
        f'<text transform="translate(14 {12 + plot / 2:.0f}) rotate(-90)" text-anchor="middle">predicted {label}</text>'
        "</svg>"
    )
    return "".join(parts)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers that enclose a range."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / count)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += last == first
    return [round(number * step, 12) for number in range(first, last + 1)]
