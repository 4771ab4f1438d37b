"""What a run counts and times: counters, latency histograms, and the course of both over time.

A latency is taken from the intended send time, so a server that stalls is charged for every send
that fell due meanwhile (G. Tene, "How NOT to Measure Latency"). That is the whole correction for
coordinated omission: the histogram must not apply its own on top. Only what was accepted is
timed; what failed is counted by its kind.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any, Final, NamedTuple

from hdrh.histogram import HdrHistogram

LONGEST_US: Final = 3_600_000_000
"""Latencies above an hour are recorded as an hour."""
SIGNIFICANT_DIGITS: Final = 3
PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
MAX_POINTS: Final = 600
"""Most points kept of a run's course; when they are full, each two become one."""


class Latency:
    """A histogram of latencies, in microseconds."""

    def __init__(self, encoded: bytes = b"", longest_us: int = 0) -> None:
        self.histogram: Any = HdrHistogram(1, LONGEST_US, SIGNIFICANT_DIGITS)
        if encoded:
            self.histogram.decode_and_add(encoded)
            self.histogram.max_value = longest_us

    def __reduce__(self) -> tuple[type["Latency"], tuple[bytes, int]]:
        """Travel between processes in HdrHistogram's compressed form, which rounds the longest."""
        return Latency, (self.encoded(), self.histogram.max_value)

    def record(self, seconds: float) -> None:
        """Count one latency."""
        self.histogram.record_value(min(max(int(seconds * 1e6), 0), LONGEST_US))

    def add(self, other: "Latency") -> None:
        """Add another's counts."""
        if other.count:
            self.histogram.add(other.histogram)

    def encoded(self) -> bytes:
        """Give it in HdrHistogram's compressed base64 form; empty when nothing was recorded."""
        return bytes(self.histogram.encode()) if self.count else b""

    @property
    def count(self) -> int:
        """Latencies recorded."""
        return int(self.histogram.total_count)

    @property
    def longest(self) -> float:
        """The longest, in ms; 0 while nothing was recorded."""
        return int(self.histogram.max_value) / 1000

    @property
    def mean(self) -> float:
        """The mean, in ms; 0 while nothing was recorded.

        As the histogram's own, which steps over the empty buckets one by one for a quarter second.
        """
        if not self.count:
            return 0.0
        histogram = self.histogram
        total = 0
        for index, count in enumerate(histogram.counts):
            if count:
                lowest = histogram.get_value_from_index(index)
                above = histogram.get_highest_equivalent_value(lowest) + 1
                total += count * ((lowest + above) // 2)
        return float(total) / self.count / 1000

    def percentiles(self, wanted: Sequence[float] = PERCENTILES) -> list[float]:
        """Give percentiles in ms; 0 each while nothing was recorded."""
        if not self.count:
            return [0.0] * len(wanted)
        histogram = self.histogram
        indices = range(histogram.counts_len)
        used = bisect_right(indices, histogram.max_value, key=histogram.get_value_from_index)
        reached = list(accumulate(histogram.counts[:used]))
        return [self._percentile(percent, reached) for percent in wanted]

    def _percentile(self, percent: float, reached: list[int]) -> float:
        """As the histogram's own, whose steps from bucket to bucket hold the sends up for ms."""
        histogram = self.histogram
        at = bisect_left(reached, histogram.get_target_count_at_percentile(percent))
        value = histogram.get_highest_equivalent_value(histogram.get_value_from_index(at))
        # A bucket's upper end can lie above the longest that was seen.
        return min(int(value) / 1000, self.longest)


@dataclass
class Tally:
    """Everything that is counted in a run; transactions unless it says requests.

    A run counts into one of these, which is emptied into a total about once a second.
    """

    requests: int = 0
    due: int = 0
    sent: int = 0
    accepted: int = 0
    late: int = 0
    """Sent, but more than the bound after the due time."""
    dropped: int = 0
    """Never sent: still waiting for a free connection too long after the due time."""
    cut_off: int = 0
    """Sent, and still without an answer when the run was over."""
    unreadable: int = 0
    """Lines of a replayed file that were no transaction."""
    above_limit: int = 0
    """Sent with an amount above the limit."""
    errors: Counter[str] = field(default_factory=Counter)
    """Not accepted, by HTTP status or kind of failure."""
    retried: Counter[str] = field(default_factory=Counter)
    """Sent again, by what the attempt before met."""
    labels: Counter[str] = field(default_factory=Counter)
    """Sent, by scenario."""
    latency: Latency = field(default_factory=Latency)
    """Of accepted requests, from the intended send time."""

    verdicts: int = 0
    """Verdicts on what this run sent."""
    fraud: int = 0
    """Those that say fraud."""
    lost: int = 0
    """Accepted, but without a verdict."""
    duplicate: int = 0
    """Verdicts on what already had one."""
    misclassified: int = 0
    """Verdicts that say other than the expected rule."""
    unaccepted: int = 0
    """Verdicts on what was sent and never acknowledged: no fault, the answer got lost."""
    forgotten: int = 0
    """Verdicts and acceptances that came after the window had passed what they are about: whether
    that was lost, or doubled, is not known."""
    gaps: int = 0
    """Gaps that the stream itself told of."""
    reconnects: int = 0
    caught: Counter[str] = field(default_factory=Counter)
    """Verdicts that say fraud, by scenario."""
    verdict_latency: Latency = field(default_factory=Latency)
    """From the intended send time to the verdict's arrival on the stream."""

    @property
    def failed(self) -> int:
        """Transactions that were refused or got no answer."""
        return self.errors.total()

    def add(self, other: "Tally") -> None:
        """Add everything another has counted."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, int):
                setattr(self, each.name, mine + theirs)
            elif isinstance(mine, Counter):
                mine.update(theirs)
            else:
                mine.add(theirs)

    def taken(self) -> "Tally":
        """Give everything counted so far, and begin anew."""
        # Handed over whole: to empty a histogram holds the sends up for longer than to make one.
        taken = Tally(**vars(self))
        vars(self).update(vars(Tally()))
        return taken


class Point(NamedTuple):
    """A stretch of the run, about a second long at first."""

    seconds: float
    """When it ended, from the start."""
    length: float
    """How long it was, in seconds."""
    due: int
    """Transactions that fell due in it."""
    accepted: int
    errors: int
    p50: float
    """Of what was accepted in it, in ms."""
    p99: float
    longest: float
    verdict_p99: float

    def joined(self, later: "Point") -> "Point":
        """Make one of two that follow each other; percentiles become the higher of the two."""
        return Point(
            later.seconds,
            self.length + later.length,
            self.due + later.due,
            self.accepted + later.accepted,
            self.errors + later.errors,
            *map(max, self[5:], later[5:]),
        )


class Course:
    """A run's course over time, in a bounded number of points."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._stretches = 1
        self._open: list[Point] = []
        self._ended = 0.0

    def add(self, stretch: Tally, seconds: float) -> None:
        """Add what was counted since the last call, at so many seconds from the start."""
        p50, p99 = stretch.latency.percentiles((50, 99))
        point = Point(
            seconds,
            seconds - self._ended,
            stretch.due,
            stretch.accepted,
            stretch.failed,
            p50,
            p99,
            stretch.latency.longest,
            stretch.verdict_latency.percentiles((99,))[0],
        )
        self._ended = seconds
        self._open.append(point)
        if len(self._open) < self._stretches:
            return
        self.points.append(_joined(self._open))
        self._open.clear()
        if len(self.points) >= MAX_POINTS:
            self.points = [_joined(self.points[at : at + 2]) for at in range(0, MAX_POINTS, 2)]
            self._stretches *= 2


def _joined(points: list[Point]) -> Point:
    first, *others = points
    for later in others:
        first = first.joined(later)
    return first
