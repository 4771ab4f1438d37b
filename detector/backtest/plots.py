"""The report's plots, drawn as SVG by hand: bars and lines, with titles that tell the numbers."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

from detector.backtest.result import Result
from detector.engine import MAX_SCORE
from wire.messages import Decision, instant

DECISIONS: Final[tuple[Decision, ...]] = ("legit", "fraud")
WIDTH: Final = 720
HEIGHT: Final = 220
LEFT: Final = 64
BOTTOM: Final = 28
TOP: Final = 12
RIGHT: Final = 12
TICKS: Final = 4
BAR_HEIGHT: Final = 22


class Area(NamedTuple):
    """Where a plot's data goes: values 0 to `most`, over `slots` places from left to right."""

    slots: int
    most: float
    is_share: bool = False
    """Whether values are shares of one; else they are counts."""

    def x(self, slot: float) -> float:
        """Give the pixel column of a slot's left edge."""
        return LEFT + slot * (WIDTH - LEFT - RIGHT) / max(self.slots, 1)

    def y(self, value: float) -> float:
        """Give the pixel row of a value."""
        return HEIGHT - BOTTOM - value / (self.most or 1) * (HEIGHT - BOTTOM - TOP)


def timeline(result: Result) -> str:
    """Draw decisions by time, fraud on top of legit."""
    buckets = list(result.timeline)
    area = Area(len(buckets), max((counts.total() for _, counts in buckets), default=0))
    shapes = []
    for slot, (begin_ms, counts) in enumerate(buckets):
        stack = [(name, counts[name]) for name in DECISIONS]
        title = f"{instant(begin_ms):%Y-%m-%d %H:%M:%S} UTC: {_listed(stack)}"
        shapes += _stack(area, slot, stack, title)
    ends = [f"{instant(begin):%m-%d %H:%M:%S}" for begin, _ in buckets[:1] + buckets[-1:]]
    return _plot("Decisions by time", area, shapes, ends)


def scores(result: Result) -> str:
    """Draw how often each ten of scores came, by reference."""
    tens = [dict.fromkeys((*DECISIONS, "unknown"), 0) for _ in range(MAX_SCORE // 10 + 1)]
    for (reference, score), count in result.scores.items():
        tens[score // 10][reference or "unknown"] += count
    area = Area(len(tens), max(sum(ten.values()) for ten in tens))
    shapes = []
    for slot, ten in enumerate(tens):
        title = f"score {slot * 10} and up: {_listed(ten.items())}"
        shapes += _stack(area, slot, ten.items(), title)
    return _plot("Scores, by what the reference says", area, shapes, ["0", str(MAX_SCORE)])


def thresholds(result: Result) -> str:
    """Draw precision and recall as they would be with each threshold."""
    sweep = list(result.thresholds())
    area = Area(len(sweep), 1, is_share=True)
    shapes = [
        _line(area, [(i, c.precision) for i, (_, c) in enumerate(sweep)], "precision"),
        _line(area, [(i, c.recall) for i, (_, c) in enumerate(sweep)], "recall"),
    ]
    at = area.x(result.rules.threshold - 1)
    shapes.append(
        f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}">'
        f"<title>threshold {result.rules.threshold}</title></line>"
    )
    return _plot("Precision and recall by threshold", area, shapes, ["1", "100"])


def hits(result: Result) -> str:
    """Draw each rule's hits, and the part of them where the reference says fraud."""
    rules = list(result.rule_results.values())
    most = max((rule.hits for rule in rules), default=0) or 1
    room = WIDTH - 3 * LEFT - RIGHT
    shapes = []
    for row, rule in enumerate(rules):
        y = row * BAR_HEIGHT
        for count, name in ((rule.hits, "legit"), (rule.hits_on_fraud, "fraud")):
            shapes.append(
                f'<rect class="{name}" x="{3 * LEFT}" y="{y + 4}" height="{BAR_HEIGHT - 8}"'
                f' width="{count / most * room:.1f}">'
                f"<title>{escape(rule.id)}: {rule.hits:,} hits, {rule.hits_on_fraud:,} on fraud"
                "</title></rect>"
            )
        shapes.append(
            f'<text x="{3 * LEFT - 8}" y="{y + BAR_HEIGHT / 2 + 4}" text-anchor="end">'
            f"{escape(rule.id)}</text>"
        )
    return _svg("Hits of each rule", len(rules) * BAR_HEIGHT or 1, shapes)


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts if count)


def _stack(area: Area, slot: int, counts: Iterable[tuple[str, int]], title: str) -> list[str]:
    """Draw a slot's counts on top of each other, each in the colour of its name."""
    x, width = area.x(slot), area.x(slot + 1) - area.x(slot)
    bars, base = [], 0
    for name, count in counts:
        top, bottom = area.y(base + count), area.y(base)
        base += count
        bars.append(
            f'<rect class="{name}" x="{x:.1f}" y="{top:.1f}" width="{max(width - 1, 0.5):.1f}"'
            f' height="{bottom - top:.1f}"><title>{escape(title)}</title></rect>'
        )
    return bars


def _line(area: Area, points: Sequence[tuple[int, float | None]], name: str) -> str:
    known = [f"{area.x(x):.1f},{area.y(y):.1f}" for x, y in points if y is not None]
    return f'<polyline class="{name}" points="{" ".join(known)}"><title>{name}</title></polyline>'


def _plot(title: str, area: Area, shapes: Iterable[str], ends: Sequence[str]) -> str:
    axes = []
    for tick in range(TICKS + 1):
        value = area.most * tick / TICKS
        count = f"{value:,.0f}" if value == int(value) else ""
        text = f"{value:.0%}" if area.is_share else count
        y = area.y(value)
        axes.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for text, x, anchor in zip(ends, (LEFT, WIDTH - RIGHT), ("start", "end"), strict=False):
        axes.append(f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="{anchor}">{escape(text)}</text>')
    return _svg(title, HEIGHT, [*axes, *shapes])


def _svg(title: str, height: int, shapes: Iterable[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {height}"'
        f' role="img" aria-label="{escape(title)}">{"".join(shapes)}</svg></figure>'
    )
