"""The report with plots: one HTML file that needs nothing from anywhere else."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from loadgen import report
from loadgen.measure import Course, Tally
from loadgen.summary import Summary

WIDTH: Final = 860
HEIGHT: Final = 260
LEFT, RIGHT, TOP, BOTTOM = 64, 32, 28, 40
COLOURS: Final = ("#0b6bcb", "#c2410c", "#15803d", "#7c3aed")
CURVE: Final = (0, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999)
"""Percentiles of the percentile curve."""

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Load run {run_id}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
  :root {{ color-scheme: light dark; --ink: #1f2937; --dim: #6b7280; --line: #d1d5db; }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ink: #e5e7eb; --dim: #9ca3af; --line: #374151; }} }}
  body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 56rem;
         margin: 2rem auto; padding: 0 1rem; }}
  h1 {{ font-size: 1.4rem; }} h2 {{ font-size: 1.05rem; margin: 2rem 0 .3rem; }}
  pre {{ white-space: pre-wrap; line-height: 1.6; }}
  svg {{ width: 100%; height: auto; }}
  svg text {{ fill: var(--dim); font: 12px system-ui, sans-serif; }}
  .grid {{ stroke: var(--line); stroke-width: 1; }}
  .curve {{ fill: none; stroke-width: 1.6; stroke-linejoin: round; }}
</style>
<h1>Load run {run_id}: {verdict}</h1>
<pre>{text}</pre>
{plots}
</html>
"""


class Line(NamedTuple):
    """One curve of a plot."""

    name: str
    points: list[tuple[float, float]]


class Ticks(NamedTuple):
    """Where an axis is marked, and with what."""

    marks: list[tuple[float, str]]


def page(summary: Summary, course: Course, total: Tally) -> str:
    """Write the report of a run."""
    points = course.points
    rate = (
        Line("due", [(p.seconds, p.due / p.length) for p in points]),
        Line("accepted", [(p.seconds, p.accepted / p.length) for p in points]),
        Line("errors", [(p.seconds, p.errors / p.length) for p in points]),
    )
    latency = [
        Line("p50", [(p.seconds, p.p50) for p in points]),
        Line("p99", [(p.seconds, p.p99) for p in points]),
        Line("max", [(p.seconds, p.longest) for p in points]),
    ]
    if summary.verification:
        latency.append(Line("verdict p99", [(p.seconds, p.verdict_p99) for p in points]))
    curve = [Line("POST", _curve(total.latency.percentiles(CURVE)))]
    if summary.verification:
        curve.append(Line("POST to verdict", _curve(total.verdict_latency.percentiles(CURVE))))
    end = max((p.seconds for p in points), default=1.0)
    seconds = _linear(end)
    plots = (
        plot("Transactions a second, over time in s", rate, seconds),
        plot("Latency in ms from the intended send time, over time in s", latency, seconds),
        plot("Latency in ms by percentile", curve, _percentile_ticks()),
    )
    return _PAGE.format(
        run_id=escape(summary.run_id),
        verdict="passed" if summary.ok else "failed",
        text=escape(report.text(summary)),
        plots="\n".join(plots),
    )


def plot(title: str, lines: Sequence[Line], x_axis: Ticks) -> str:
    """Draw curves over an axis, as an SVG figure under a heading."""
    right = max(at for at, _ in x_axis.marks) or 1.0
    y_axis = _linear(max((y for line in lines for _, y in line.points), default=1.0))
    top = y_axis.marks[-1][0]

    def x(value: float) -> float:
        return LEFT + value / right * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y(at) + 4:.1f}" text-anchor="end">{mark}</text>'
        for at, mark in y_axis.marks
    ]
    parts += [
        f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{mark}</text>'
        for at, mark in x_axis.marks
    ]
    for number, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in line.points)
        parts.append(f'<polyline class="curve" stroke="{colour}" points="{path}"/>')
        place = f'x="{LEFT + number * 130}" y="14" style="fill:{colour}"'
        parts.append(f"<text {place}>{escape(line.name)}</text>")
    label = escape(title)
    return (
        f"<h2>{label}</h2>\n"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _linear(highest: float) -> Ticks:
    """Mark an axis from 0 to at least the highest value, in steps of 1, 2 or 5 times 10^n."""
    rough = max(highest, 1e-3) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    count = math.ceil(highest / step * 0.999) or 1
    return Ticks([(at * step, f"{at * step:,.10g}") for at in range(count + 1)])


def _percentile_ticks() -> Ticks:
    return Ticks(_places((0, 90, 99, 99.9, 99.99, 99.999)))


def _places(percents: Iterable[float]) -> list[tuple[float, str]]:
    return [(_place(percent), f"{percent:g} %") for percent in percents]


def _place(percent: float) -> float:
    """Each further nine takes the same width."""
    return -math.log10(1 - percent / 100)


def _curve(values: Iterable[float]) -> list[tuple[float, float]]:
    return [(_place(percent), value) for percent, value in zip(CURVE, values, strict=True)]
