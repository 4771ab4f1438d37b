"""What a detector counts: plain numbers that any exporter can read, without touching the worker."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from detector.batch import Outcome
from detector.engine import Engine, Failures
from wire.metrics import RECORDS, SECONDS, Histogram
from wire.records import Record

log = structlog.get_logger(__name__)
END_TO_END_SAMPLES: Final = 64
"""Most times taken of one partition's part of a batch for the end-to-end histogram."""
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

    def settled(
        self, partition: int, records: Sequence[Record], outcome: Outcome, engine: Engine
    ) -> None:
        """Count a partition's part of a batch that was committed, and what its engine holds now."""
        self.records += len(records)
        self.legit += len(outcome.legit)
        self.fraud += len(outcome.fraud)
        self.duplicates += outcome.duplicates
        self.dead_letters += len(outcome.dead)
        for rule, times in outcome.rules.items():
            self.rules[_label(rule, self.rules)] += times
        self.entries[partition] = engine.entries
        self.evicted[partition] = engine.evicted
        for rule, failures in engine.failures().items():
            self._had_no_answer(rule, failures)
        self._waited(records)

    def _had_no_answer(self, rule: str, failures: Failures) -> None:
        label = _label(rule, self.unanswered)
        if label not in self.unanswered:
            # Why may quote the record, so that only its kind is told.
            why = failures.last.partition(":")[0]
            log.warning("a rule could not judge a transaction", rule=rule, why=why)
        self.unanswered[label] += failures.times

    def _waited(self, records: Sequence[Record]) -> None:
        # In a large batch, one record stands for its neighbours.
        now, step = time.time(), 1 + len(records) // END_TO_END_SAMPLES
        for first in range(0, len(records), step):
            waited = now - records[first].timestamp / 1000
            self.end_to_end.observe(waited, min(step, len(records) - first))

    def forget(self, partition: int) -> None:
        """Drop what is kept per partition: it is no longer ours."""
        for of_partition in (self.lag, self.answered_at, self.entries, self.evicted):
            of_partition.pop(partition, None)


def _label(rule: str, counted: Counter[str]) -> str:
    return rule if rule in counted or len(counted) < MAX_RULES else "other"
