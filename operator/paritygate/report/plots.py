"""Small pictures as inline SVG: measured against limit, histogram of errors, source against candidate.

Colours come from the page's style sheet through classes. Each picture also says what it shows in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from paritygate.api.report import Histogram, Measurement, Scatter
from paritygate.report import numbers

_ROUNDING = 1e-9
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

BULLET_WIDTH, BULLET_HEIGHT = 168.0, 20.0
_BULLET_MARGIN = 8.0
_BULLET_REACH = 1.5  # limits stand at two thirds, so that bars can be compared across checks

WIDTH, HEIGHT = 500.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 26.0, 46.0
_EQUAL_WIDTH = 64.0
_MOST_TICKS = 8


def bullet(measurement: Measurement) -> Markup:
    """Where `measured` and its bounds stand relative to the limit; arrows mark values off the scale.

    Returns:
        An empty string without a limit or a measured number: then there is nothing to relate.
    """
    limit, measured = measurement.limit, measurement.measured
    if limit is None or measured is None or not math.isfinite(limit):
        return Markup()
    low, high = (
        measured if measurement.lower is None else measurement.lower,
        measured if measurement.upper is None else measurement.upper,
    )
    unit = abs(limit) or 1.0
    start = -0.5 * unit if min(low, limit) < 0 else 0.0
    end = start + (_BULLET_REACH + (0.5 if start < 0 else 0.0)) * unit
    span = BULLET_WIDTH - 2 * _BULLET_MARGIN

    def x(value: float) -> float:
        inside = min(max(value, start), end) if not math.isnan(value) else end
        return _BULLET_MARGIN + (inside - start) / (end - start) * span

    middle = BULLET_HEIGHT / 2
    parts = [_rect("track", _BULLET_MARGIN, middle - 2.5, span, 5, radius=2.5)]
    if measurement.lower is not None and measurement.upper is not None:
        parts.append(_rect("range", x(low), middle - 4.5, max(x(high) - x(low), 2), 9, radius=2))
    parts.append(_line("limit", x(limit), 1, x(limit), BULLET_HEIGHT - 1))
    if math.isnan(measured) or measured > end or measured < start:
        at = x(measured)
        tip = at + (-6 if measured < start else 6)
        parts.append(
            f'<path class="dot" d="M{at:.1f} {middle - 5:.1f}L{tip:.1f} {middle:.1f}L{at:.1f} {middle + 5:.1f}Z"/>'
        )
    else:
        parts.append(f'<circle class="dot" cx="{x(measured):.1f}" cy="{middle:.1f}" r="4"/>')
    said = [f"measured {numbers.quantity(measurement, measured)}"]
    said += [f"bounds {numbers.bounds(measurement)}"] if numbers.bounds(measurement) else []
    said += [f"limit {numbers.quantity(measurement, limit)}"]
    return _svg("bullet", BULLET_WIDTH, BULLET_HEIGHT, ", ".join(said), parts)


@dataclass(frozen=True)
class _LogFrame:
    """Where powers of ten of the error, and numbers of rows, lie in the histogram's picture."""

    low: int
    high: int
    """Exponents at both ends of the horizontal axis."""
    decades: int
    """Powers of ten of rows on the vertical axis."""
    begin: float
    """Left end of the horizontal axis; what is left of it is for rows without error."""

    END = WIDTH - _RIGHT
    FLOOR = HEIGHT - _BOTTOM

    def x(self, exponent: float) -> float:
        return self.begin + (exponent - self.low) / (self.high - self.low) * (self.END - self.begin)

    def y(self, rows: int) -> float:
        # One row must show: log10(1) = 0 would have no height, so that the axis begins at half a row.
        base = math.log10(0.5)
        return self.FLOOR - (math.log10(max(rows, 0.5)) - base) / (self.decades - base) * (self.FLOOR - _TOP)

    def axes(self) -> list[str]:
        parts = [
            piece
            for decade in range(self.decades + 1)
            for at in (self.y(10**decade),)
            for piece in (_line("grid", _LEFT, at, self.END, at), _text(_LEFT - 8, at + 4, f"{10**decade:,}", "end"))
        ]
        step = max(1, math.ceil((self.high - self.low) / _MOST_TICKS))
        for exponent in (e for e in range(self.low, self.high + 1) if e % step == 0):
            at = self.x(exponent)
            parts += [_line("tick", at, self.FLOOR, at, self.FLOOR + 5)]
            parts += [_text(at, self.FLOOR + 19, _power(exponent), "middle")]
        middle = (self.begin + self.END) / 2
        return [
            *parts,
            _text(middle, HEIGHT - 8, "largest error in the row, in units of tolerance τ", "middle", "name"),
            _text(_LEFT - 8, _TOP - 10, "rows", "end", "name"),
        ]

    def limit(self) -> list[str]:
        at = self.x(0)
        aside, anchor = (6, "start") if at < self.END - 80 else (-6, "end")
        return [
            _line("axis", _LEFT, self.FLOOR, self.END, self.FLOOR),
            _line("limit", at, _TOP - 8, at, self.FLOOR),
            _text(at + aside, _TOP - 10, "limit", anchor, "mark"),
        ]

    def bar(self, name: str, left: float, width: float, rows: int) -> str:
        return _rect(name, left, self.y(rows), width, self.FLOOR - self.y(rows))


def error_histogram(histogram: Histogram) -> Markup:
    """Rows by largest error in units of tolerance, both axes logarithmic; bars beyond the limit are hatched."""
    counts = histogram.counts
    beyond, total = rows_over_limit(histogram)
    if total == 0 or len(histogram.edges) != len(counts) + 1:
        return _empty("No row was compared")
    exponents = _exponents(histogram.edges)
    bins = [(exponents[i], exponents[i + 1], rows) for i, rows in enumerate(counts) if rows]
    tallest = max([*counts, histogram.zeros])
    frame = _LogFrame(
        low=math.floor(min([left for left, _, _ in bins] + [-1.0])),
        high=math.ceil(max([right for _, right, _ in bins] + [1.0])),
        decades=max(1, math.ceil(math.log10(tallest))),
        begin=_LEFT + (_EQUAL_WIDTH if histogram.zeros else 0.0),
    )
    parts = frame.axes()
    for left, right, rows in bins:
        name = "over" if left >= -_ROUNDING else "bar"
        parts.append(frame.bar(name, frame.x(left) + 0.5, max(frame.x(right) - frame.x(left) - 1.0, 1.5), rows))
    if histogram.zeros:
        parts.append(frame.bar("bar", _LEFT + 6, _EQUAL_WIDTH - 34, histogram.zeros))
        parts.append(_text(_LEFT + 6 + (_EQUAL_WIDTH - 34) / 2, frame.FLOOR + 19, "equal", "middle"))
    return _svg("plot", WIDTH, HEIGHT, f"{beyond:,} of {total:,} rows beyond the limit", [*parts, *frame.limit()])


def rows_over_limit(histogram: Histogram) -> tuple[int, int]:
    """Rows in bins that begin at the tolerance or above, and all rows."""
    over = sum(rows for rows, edge in zip(histogram.counts, histogram.edges, strict=False) if edge >= 1 - _ROUNDING)
    return over, sum(histogram.counts) + histogram.zeros


def flip_scatter(scatter: Scatter) -> Markup:
    """Source on the horizontal, candidate on the vertical axis; flips are crosses, thresholds are dashed lines."""
    points = [
        point
        for point in zip(scatter.reference, scatter.candidate, scatter.flipped, strict=False)
        if math.isfinite(point[0]) and math.isfinite(point[1])
    ]
    if not points:
        return _empty("No row was compared")
    values = [value for point in points for value in point[:2]]
    if scatter.threshold is not None and math.isfinite(scatter.threshold):
        values.append(scatter.threshold)
    low, high, ticks = _scale(min(values), max(values))
    width = height = 380.0
    left, right, top, floor = 62.0, width - 14.0, 14.0, height - 48.0

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    def y(value: float) -> float:
        return floor - (value - low) / (high - low) * (floor - top)

    parts: list[str] = []
    for tick in ticks:
        parts += [_line("grid", left, y(tick), right, y(tick)), _line("grid", x(tick), top, x(tick), floor)]
        parts += [_text(left - 8, y(tick) + 4, numbers.number(tick), "end")]
        parts += [_text(x(tick), floor + 19, numbers.number(tick), "middle")]
    parts.append(_line("same", x(low), y(low), x(high), y(high)))
    kept = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b, flipped in points if not flipped)
    flips = "".join(f"M{x(a) - 3:.1f} {y(b) - 3:.1f}l6 6m0-6l-6 6" for a, b, flipped in points if flipped)
    parts += [f'<path class="kept" d="{kept}"/>', f'<path class="flip" d="{flips}"/>']
    if scatter.threshold is not None and math.isfinite(scatter.threshold):
        at = scatter.threshold
        parts += [_line("limit dashed", x(at), top, x(at), floor), _line("limit dashed", left, y(at), right, y(at))]
        parts.append(_text(right - 4, y(at) - 6, f"threshold {numbers.number(at)}", "end", "mark"))
    parts += [
        _text((left + right) / 2, height - 8, "source answered", "middle", "name"),
        f'<g transform="translate(14 {(top + floor) / 2:.1f}) rotate(-90)">',
        _text(0, 0, "candidate answered", "middle", "name"),
        "</g>",
    ]
    flipped_count = sum(point[2] for point in points)
    return _svg(
        "plot",
        width,
        height,
        f"{numbers.count(flipped_count, 'flip')} among {numbers.count(len(points), 'point')}",
        parts,
    )


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """A range of round numbers around `low` and `high`, with four to six ticks."""
    if low == high:
        low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
    raw = (high - low) / 4
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _exponents(edges: tuple[float, ...]) -> list[float]:
    """log10 of each edge; 0 and ∞ lie half a decade outside the others."""
    known = [math.log10(edge) for edge in edges if edge > 0 and math.isfinite(edge)] or [0.0]
    return [
        min(known) - 0.5 if edge <= 0 else max(known) + 0.5 if math.isinf(edge) else math.log10(edge) for edge in edges
    ]


def _power(exponent: int) -> str:
    plain = {0: "1", 1: "10", -1: "0.1", 2: "100", -2: "0.01", 3: "1,000"}
    return plain.get(exponent) or "10" + str(exponent).translate(_SUPERSCRIPTS)


def _svg(name: str, width: float, height: float, words: str, parts: Iterable[str]) -> Markup:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    head = f'<svg class="{name}" {size} role="img" aria-label="{escape(words)}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 - texts are escaped


def _empty(words: str) -> Markup:
    return _svg("plot none", WIDTH, 64, words, [_text(WIDTH / 2, 38, words, "middle", "name")])


def _rect(  # noqa: PLR0913, PLR0917 - as SVG has it
    name: str, x: float, y: float, width: float, height: float, radius: float = 0
) -> str:
    rounded = f' rx="{radius:g}"' if radius else ""
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{rounded}/>'


def _line(name: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str, name: str = "label") -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
