"""What a run counts and times: counters, latency histograms, and the course of both over time.

A latency is taken from the intended send time, so a server that stalls is charged for every send
that fell due meanwhile (G. Tene, "How NOT to Measure Latency"). That is the whole correction for
coordinated omission: the histogram must not apply its own on top.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from hdrh.histogram import HdrHistogram

LONGEST_US: Final = 3_600_000_000
"""Latencies above an hour are recorded as an hour."""
SIGNIFICANT_DIGITS: Final = 3
PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
MAX_POINTS: Final = 600
"""Points kept of a run's course; when they are full, each two become one."""


class Latency:
    """A histogram of latencies, in microseconds."""

    def __init__(self) -> None:
        self.histogram: Any = HdrHistogram(1, LONGEST_US, SIGNIFICANT_DIGITS)

    def record(self, seconds: float) -> None:
        """Count one latency."""
        self.histogram.record_value(min(max(int(seconds * 1e6), 0), LONGEST_US))

    def take(self, other: "Latency") -> None:
        """Add another's counts and empty it."""
        if other.count:
            self.histogram.add(other.histogram)
            other.histogram.reset()

    @property
    def count(self) -> int:
        """Latencies recorded."""
        return int(self.histogram.total_count)

    def milliseconds(self) -> dict[str, float | None]:
        """Give mean, max and percentiles in ms; None each while nothing was recorded."""
        names = [f"p{each:g}" for each in PERCENTILES]
        if not self.count:
            return dict.fromkeys(["mean", *names, "max"])
        found = self.histogram.get_percentile_to_value_dict(list(PERCENTILES))
        return {
            "mean": self.histogram.get_mean_value() / 1000,
            **{f"p{each:g}": found[each] / 1000 for each in PERCENTILES},
            "max": self.histogram.max_value / 1000,
        }

    def percentile(self, percent: float) -> float:
        """Give one percentile in ms; 0 while nothing was recorded."""
        return float(self.histogram.get_value_at_percentile(percent)) / 1000 if self.count else 0.0


class Point(NamedTuple):
    """A stretch of the run."""

    seconds: float
    """When it ended, from the start."""
    due: int
    """Transactions that fell due in it."""
    answered: int
    """Transactions answered in it."""
    errors: int
    p50: float
    """Of the answers in it, in ms."""
    p99: float
    top: float
    """The longest, in ms."""


@dataclass
class Tally:
    """Everything that is counted in a run; transactions unless it says requests."""

    requests: int = 0
    due: int = 0
    sent: int = 0
    accepted: int = 0
    retried: int = 0
    late: int = 0
    dropped: int = 0
    cut_off: int = 0
    """Still without an answer when the run was over."""
    above_limit: int = 0
    in_flight: int = 0
    """Requests, now."""
    errors: Counter[str] = field(default_factory=Counter)
    """By HTTP status or kind of failure."""
    labels: Counter[str] = field(default_factory=Counter)
    latency: Latency = field(default_factory=Latency)
    """Of answered requests, from the intended send time."""
    recent: Latency = field(default_factory=Latency)
    """The same since the last point; not yet in `latency`."""

    @property
    def failed(self) -> int:
        """Transactions that were answered by a refusal or not at all."""
        return self.errors.total()


class Course:
    """A run's course over time, in a bounded number of points."""

    def __init__(self, tally: Tally) -> None:
        self.points: list[Point] = []
        self._tally = tally
        self._stride = 1
        self._ticks = 0
        self._due = self._answered = self._errors = 0

    def tick(self, seconds: float) -> None:
        """Close a stretch; called about once a second."""
        tally = self._tally
        answered, errors = tally.accepted + tally.failed, tally.failed
        recent = tally.recent
        point = Point(
            seconds,
            tally.due - self._due,
            answered - self._answered,
            errors - self._errors,
            recent.percentile(50),
            recent.percentile(99),
            recent.histogram.max_value / 1000,
        )
        tally.latency.take(recent)
        self._due, self._answered, self._errors = tally.due, answered, errors
        self.points.append(point)
