"""What a detector counts: plain numbers that any exporter can read, without touching the worker."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from wire.metrics import RECORDS, SECONDS, Histogram

MAX_RULES: Final = 1_000
"""Rules counted by name; hits of more, after many reloads, are counted under `other`."""


@dataclass(slots=True)
class Metrics:
    """Totals since the process started; `lag` and `windows` are as of the last batch."""

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
    """Records behind the log's end, per assigned partition."""
    entries: dict[int, int] = field(default_factory=dict)
    """Entries in the windows, per assigned partition."""
    evicted: dict[int, int] = field(default_factory=dict)
    """Entries let go for want of room, per assigned partition."""

    def hit(self, rules: Counter[str]) -> None:
        """Count the rules that hit in a batch."""
        for rule, times in rules.items():
            known = rule in self.rules or len(self.rules) < MAX_RULES
            self.rules[rule if known else "other"] += times

    def forget(self, partition: int) -> None:
        """Drop what is kept per partition: it is no longer ours."""
        for of_partition in (self.lag, self.entries, self.evicted):
            of_partition.pop(partition, None)
