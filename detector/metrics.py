"""What a detector counts: plain numbers that any exporter can read, without touching the worker."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from wire.metrics import RECORDS, SECONDS, Histogram

MAX_RULES: Final = 1_000
"""Rules counted by name; what more do, after many reloads, is counted under `other`."""


@dataclass(slots=True)
class Metrics:
    """Totals since the process started; of a partition, what its last batch or fetch told."""

    records: int = 0
    """Records read and settled, whatever became of them."""
    legit: int = 0
    fraud: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    batches: int = 0
    """Transactions committed."""
    rules: Counter[str] = field(default_factory=Counter)
    """Hits by rule id, those of rules in shadow too."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """Transactions that a rule could not judge, by rule id."""
    batch_records: Histogram = field(default_factory=lambda: Histogram(RECORDS))
    """Records in each transaction."""
    transaction: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """Seconds from the first decision of a batch to its commit."""
    end_to_end: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    """Seconds from a record's timestamp, which the gateway sets, to its verdict's commit."""
    aborts: int = 0
    fenced: int = 0
    rebuilds: int = 0
    rebuilt_records: int = 0
    rebuild_seconds: float = 0.0
    """Time spent on building state from the log."""
    lag: dict[int, int] = field(default_factory=dict)
    """Records between what was fetched last and the log's end, per assigned partition.

    While windows are rebuilt, those of the past that are still to be read count as well.
    """
    answered_at: dict[int, float] = field(default_factory=dict)
    """When a broker last answered for an assigned partition (time.monotonic)."""
    entries: dict[int, int] = field(default_factory=dict)
    """Entries in the windows, per assigned partition."""
    evicted: dict[int, int] = field(default_factory=dict)
    """Entries let go for want of room, per assigned partition."""

    def hit(self, rules: Counter[str]) -> None:
        """Count the rules that hit in a batch."""
        for rule, times in rules.items():
            self.rules[_label(rule, self.rules)] += times

    def had_no_answer(self, rule: str, times: int) -> bool:
        """Count transactions that a rule could not judge; True if it is the first time."""
        label = _label(rule, self.unanswered)
        first = label not in self.unanswered
        self.unanswered[label] += times
        return first

    def forget(self, partition: int) -> None:
        """Drop what is kept per partition: it is no longer ours."""
        for of_partition in (self.lag, self.answered_at, self.entries, self.evicted):
            of_partition.pop(partition, None)


def _label(rule: str, counted: Counter[str]) -> str:
    return rule if rule in counted or len(counted) < MAX_RULES else "other"
