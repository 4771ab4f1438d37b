"""A trial: rules judged over the records of one partition, beside what they are compared with."""

import time
from typing import NamedTuple

from detector.backtest.result import Reference, Result
from detector.engine import Engine
from detector.rules import Check, Rule, RuleSet
from detector.windows import WindowLimits
from wire.messages import Transaction


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
        self._since_ms = since_ms or 0
        self._until_ms = until_ms
        self.over = False
        """True when the range's end was seen."""
        self.first_ms: int | None = None
        """Timestamp of the first case that was judged."""
        self.last_ms = 0
        """Latest timestamp of one that was judged."""
        self._timing_checks = False
        self._expects = expects or against is not None

    def take(self, case: Case) -> None:
        """Take in the next case."""
        transaction, received_ms, reference = case
        self.over = self.over or (self._until_ms is not None and received_ms >= self._until_ms)
        if self.over:
            return
        if self.first_ms is None and received_ms >= self._since_ms:
            self.first_ms = received_ms
        if self._baseline is not None:
            other = self._baseline.decide(transaction, received_ms)
            reference = Reference(*other) if other else None
        if self.first_ms is None:
            self._engine.take_in(transaction, received_ms)
            self._result.replayed += 1
            return
        self.last_ms = max(self.last_ms, received_ms)
        # By turns: a stopwatch in each check would count in the decision's own time.
        self._timing_checks = not self._timing_checks
        began = time.perf_counter_ns()
        decided = self._engine.decide(transaction, received_ms)
        if not self._timing_checks:
            self._result.cost.add(began)
        if decided is None:
            self._result.duplicates += 1
            # A reference that remembers ids for a shorter time decides what these rules do not.
            self._result.extra += reference is not None
        else:
            self._result.add(transaction, received_ms, decided, reference, expected=self._expects)

    def close(self) -> None:
        """Add up what the engine counted."""
        self._result.evicted += self._engine.evicted
        for rule, failures in self._engine.failures.items():
            self._result.failures[rule] += failures.times

    def _timed(self, rule: Rule, check: Check) -> Check:
        cost = self._result.rule_results[rule.id].cost

        def timed(transaction: Transaction, received_ms: int) -> str | None:
            if not self._timing_checks:
                return check(transaction, received_ms)
            began = time.perf_counter_ns()
            try:
                return check(transaction, received_ms)
            finally:
                cost.add(began)

        return timed
