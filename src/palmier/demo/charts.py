"""Line charts as inline SVG, drawn by hand: no script, no font, no file beside the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 16, 42
COLOURS = ("#1668b8", "#c2410c", "#15803d", "#7c3aed")


@dataclass(frozen=True)
class Series:
    """One line: its name, its points from left to right, and whether they are marked."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def line_chart(title: str, x_label: str, y_label: str, series: Sequence[Series], *, zero: bool = False) -> str:
    """An SVG of one to four lines over common axes; "" where there is no point. ``zero``: the y axis begins at 0."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points] + ([0.0] if zero else []))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" class="chart">']
    for tick in ticks(y_low, y_high):
        _, y = place(x_low, tick)
        drawn.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(x_low, x_high):
        x, _ = place(tick, y_low)
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(tick)}</text>')
    drawn.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    drawn.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_label)}</text>'
    )
    for one, colour in zip(series, COLOURS, strict=False):
        placed = [place(x, y) for x, y in one.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if one.dots:
            drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in placed]
    drawn.append("</svg>")
    names = "".join(
        f'<span class="key"><i style="background:{colour}"></i>{escape(one.name)}</span>'
        for one, colour in zip(series, COLOURS, strict=False)
    )
    return f"<figure><figcaption>{escape(title)}</figcaption>{''.join(drawn)}<div>{names}</div></figure>"


def thin(points: Sequence[tuple[float, float]], most: int = 120) -> list[tuple[float, float]]:
    """At most ``most`` points: means of runs of neighbours, for curves with thousands of steps."""
    size = max(1, math.ceil(len(points) / most))
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between low and high, at most about ``most``."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest with a margin; never empty."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return (low if low == 0 else low - margin), high + margin


def _short(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if abs(value) >= 1e4 else f"{value:g}"
