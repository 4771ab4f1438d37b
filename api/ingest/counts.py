"""What the ingest path counts, in plain numbers that an exporter can read at any time."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from api.problems import Kind
from wire.metrics import RECORDS, SECONDS, Histogram

OUTCOMES: Final = ("accepted", "decided", "refused", "failed")
"""What became of a request: in Kafka (all of it or some), there and decided, a 4xx, a 5xx."""


@dataclass(slots=True)
class Counts:
    """Sums since the process started, except where a name says `in_flight`."""

    requests: Counter[int] = field(default_factory=Counter)
    """POST /transactions answered, by HTTP status."""
    problems: Counter[str] = field(default_factory=Counter)
    """POST /transactions answered with a problem, by its code."""
    seconds: dict[str, Histogram] = field(
        default_factory=lambda: {outcome: Histogram(SECONDS) for outcome in OUTCOMES}
    )
    """From a POST's header to its answer, by outcome; with the wait for a verdict, if asked for."""
    requests_in_flight: int = 0

    def answered(self, status: int, began: float) -> None:
        """Count an answer to a request that began then, on the monotonic clock."""
        self.requests[status] += 1
        self.seconds[_outcome(status)].observe(time.monotonic() - began)

    def answered_together(self, status: int, began: Sequence[float]) -> None:
        """Count answers given at once to requests that began then, on the monotonic clock."""
        self.requests[status] += len(began)
        now = time.monotonic()
        observe = self.seconds[_outcome(status)].observe
        for each in began:
            observe(now - each)

    def refused(self, kind: Kind, began: float) -> None:
        """Count an answer with a problem."""
        self.answered(kind.status, began)
        self.problems[kind.code] += 1

    def exemplify(self, status: int, seconds: float, trace_id: str) -> None:
        """Name the trace of a request that was answered so, after so long."""
        self.seconds[_outcome(status)].exemplify(seconds, trace_id)


@dataclass(slots=True)
class Deliveries:
    """What the outbox has put into Kafka since the process started."""

    records_acknowledged: int = 0
    records_failed: int = 0
    """Records that were put in the outbox and not acknowledged in time, or at all."""
    seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """From a batch's first record to its acknowledgement."""
    batch_records: Histogram = field(default_factory=lambda: Histogram(RECORDS))
    """Records in each batch acknowledged."""


def _outcome(status: int) -> str:
    if status == 200:  # noqa: PLR2004 - OK: the verdict was waited for
        return "decided"
    return {2: "accepted", 4: "refused"}.get(status // 100, "failed")
