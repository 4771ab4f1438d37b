"""A trial: rules judged over the records of one partition, beside what they are compared with."""

import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from detector.backtest.result import Reference, Result
from detector.engine import Engine
from detector.rules import Check, Finding, Row, Rule, RuleSet
from detector.windows import WindowLimits
from wire.messages import EARLIEST_MS, Transaction

BATCH: Final = 1_000
"""Most cases that wait to be judged in one go."""


class Case(NamedTuple):
    """One transaction of the log, and what is known of it."""

    transaction: Transaction
    received_ms: int
    reference: Reference | None = None


class Trial:
    """Judges one partition, or one file; counts into a result that several may share."""

    def __init__(
        self,
        result: Result,
        *,
        against: RuleSet | None = None,
        limits: WindowLimits,
        since_ms: int | None = None,
        until_ms: int | None = None,
        expects: bool = True,
    ) -> None:
        """Make a trial at the beginning of what will be read.

        Args:
            result: what it counts into; its rules are those tried.
            against: rules that give the references in place of those that come with the cases.
            limits: bounds of the windows.
            since_ms: what comes before the first case stamped so, or later, only moves windows.
            until_ms: the first case stamped so, or later, and all after it, are left aside.
            expects: whether each case should have a reference.
        """
        self._result = result
        self._engine = Engine(result.rules, limits, self._timed)
        self._baseline = Engine(against, limits) if against else None
        self._since_ms = EARLIEST_MS if since_ms is None else since_ms
        self._until_ms = until_ms
        self.over = False
        """True when the range's end was seen."""
        self.first_ms: int | None = None
        """Timestamp of the first case that was judged."""
        self.last_ms = 0
        """Latest timestamp of one that was judged."""
        self._waiting: list[Case] = []
        self._timing_checks = False
        self._expects = expects or against is not None

    def take(self, case: Case) -> None:
        """Take in the next case."""
        received_ms = case.received_ms
        self.over = self.over or (self._until_ms is not None and received_ms >= self._until_ms)
        if self.over:
            return
        if self.first_ms is None and received_ms >= self._since_ms:
            self._go_through()
            self.first_ms = received_ms
        if self.first_ms is not None:
            self.last_ms = max(self.last_ms, received_ms)
        self._waiting.append(case)
        if len(self._waiting) == BATCH:
            self._go_through()

    def close(self) -> None:
        """Judge what is left, and add up what the engine counted."""
        self._go_through()
        self._result.evicted += self._engine.evicted
        for rule, failures in self._engine.failures().items():
            self._result.failures[rule] += failures.times

    def _go_through(self) -> None:
        """Take in what waits: all of it lies before the range, or all within."""
        cases, self._waiting = self._waiting, []
        if self.first_ms is not None:
            # By turns: a stopwatch in each check would count in the decision's own time.
            half = (len(cases) + 1) // 2
            self._judge(cases[:half], timing_checks=True)
            self._judge(cases[half:], timing_checks=False)
        elif cases:
            transactions, times_ms, _ = zip(*cases, strict=True)
            self._engine.take_in(transactions, times_ms)
            if self._baseline:
                self._baseline.take_in(transactions, times_ms)
            self._result.replayed += len(cases)

    def _judge(self, cases: Sequence[Case], *, timing_checks: bool) -> None:
        if not cases:
            return
        transactions, times_ms, references = zip(*cases, strict=True)
        if self._baseline:
            others = self._baseline.decide(transactions, times_ms)
            references = tuple(
                Reference(other.decision, other.score, other.reasons) if other else None
                for other in others
            )
        self._timing_checks = timing_checks
        began = time.perf_counter_ns()
        decisions = self._engine.decide(transactions, times_ms)
        if not timing_checks:
            self._result.cost.add(began, len(cases))
        for transaction, at, reference, decided in zip(
            transactions, times_ms, references, decisions, strict=True
        ):
            if decided is None:
                self._result.duplicates += 1
                # A reference that remembers ids for a shorter time decides what these do not; a
                # label is no decision.
                self._result.extra += self._expects and reference is not None
            else:
                self._result.add(transaction, at, decided, reference, expected=self._expects)

    def _timed(self, rule: Rule, check: Check) -> Check:
        cost = self._result.rule_results[rule.id].cost

        def timed(rows: Iterable[Row], received_ms: Sequence[int]) -> Iterable[Finding]:
            if not self._timing_checks:
                return check(rows, received_ms)
            began = time.perf_counter_ns()
            found = list(check(rows, received_ms))
            cost.add(began, len(received_ms))
            return found

        return timed
