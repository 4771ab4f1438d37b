"""The engine: what the rules say of each transaction of one partition, in the order of the log.

Pure: no Kafka, no clock, no I/O. The same records give the same decisions, byte for byte.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from detector.errors import ConditionError
from detector.rules import Check, Rule, RuleSet
from detector.windows import DEFAULT_LIMITS, SEPARATOR, Recent, WindowLimits, Windows
from wire.messages import Decision, Reason, Transaction

MAX_SCORE: Final = 100


class Decided(NamedTuple):
    """What the rules say of one transaction."""

    decision: Decision
    score: int
    """The weights of the rules that hit, added up to 100 at most."""
    reasons: tuple[Reason, ...]
    """The rules that hit, in the file's order, those in shadow too."""


class Failures(NamedTuple):
    """How often a rule had no answer, and why the last time."""

    times: int
    last: str


Watch = Callable[[Rule, Check], Check]
"""Puts something of its own round a rule's check, a stopwatch say."""

NOTHING_FOUND: Final = Decided("legit", 0, ())
"""What they say of most transactions."""


class Engine:
    """Rules and windows of one partition: a function of its records, in their order."""

    def __init__(
        self,
        rules: RuleSet,
        limits: WindowLimits = DEFAULT_LIMITS,
        watch: Watch = lambda _rule, check: check,
    ) -> None:
        self.failures: dict[str, Failures] = {}
        """By rule id: conditions that had no answer. Such a rule does not hit."""
        self._watch = watch
        self._time_ms = 0
        self._duplicates = Recent(rules.duplicates_ms, limits.entries)
        self._windows = Windows(limits)
        self.rules = rules

    @property
    def rules(self) -> RuleSet:
        """The rules in force. New ones may be set between two transactions.

        Windows that they read too stay as they are. One that was not there begins empty, and
        fills as time goes; where `fits` says False, a new engine and a replay give it its past.
        """
        return self._rules

    @rules.setter
    def rules(self, rules: RuleSet) -> None:
        self._rules = rules
        self._duplicates.window_ms = rules.duplicates_ms
        self._windows.keep(rules.windows)
        self._moving = rules.needs_windows
        self._checks = [
            (rule, self._watch(rule, rule.check_in_currency(self._windows))) for rule in rules.rules
        ]

    def fits(self, rules: RuleSet) -> bool:
        """Tell if rules find all that they look back at, so that setting them is enough."""
        known_ms = self._duplicates.window_ms
        return rules.duplicates_ms <= known_ms and rules.windows <= self._windows.specs

    @property
    def entries(self) -> int:
        """Window entries held."""
        return len(self._duplicates) + self._windows.entries

    @property
    def evicted(self) -> int:
        """Window entries that went before their time because a window was full."""
        return self._duplicates.evicted + self._windows.evicted

    def take_in(self, transaction: Transaction, received_ms: int) -> bool:
        """Move the windows over the next transaction of the partition.

        False for a duplicate, which no window counts.

        Args:
            transaction: as its record says.
            received_ms: the record's timestamp, ms since the epoch. It may be behind those
                before it; windows then count it at the latest of them.
        """
        time_ms = self._time_ms
        if received_ms > time_ms:
            self._time_ms = time_ms = received_ms
        key = transaction.source + SEPARATOR + transaction.transaction_id
        if self._duplicates.saw(key, time_ms):
            return False
        if self._moving:
            self._windows.add(transaction, time_ms)
        return True

    def decide(self, transaction: Transaction, received_ms: int) -> Decided | None:
        """Take the next transaction in and decide on it; None for a duplicate."""
        if not self.take_in(transaction, received_ms):
            return None
        hits = []
        for rule, check in self._checks:
            try:
                detail = check(transaction, received_ms)
            except ConditionError as error:
                self._note_failure(rule, error)
            else:
                if detail is not None:
                    hits.append((rule, detail))
        return self._judge(hits) if hits else NOTHING_FOUND

    def _judge(self, hits: list[tuple[Rule, str]]) -> Decided:
        score = 0
        reasons = []
        for rule, detail in hits:
            reasons.append(Reason(rule.id, rule.version, detail, rule.shadow))
            if not rule.shadow:
                if rule.allows:
                    return self._allow(hits)
                score += rule.weight
        score = min(score, MAX_SCORE)
        decision: Decision = "fraud" if score >= self._rules.threshold else "legit"
        return Decided(decision, score, tuple(reasons))

    def _allow(self, hits: list[tuple[Rule, str]]) -> Decided:
        # What was not counted is no reason, unless it is on trial.
        reasons = tuple(
            Reason(rule.id, rule.version, detail, rule.shadow)
            for rule, detail in hits
            if rule.allows or rule.shadow
        )
        return Decided("legit", 0, reasons)

    def _note_failure(self, rule: Rule, error: ConditionError) -> None:
        before = self.failures.get(rule.id)
        self.failures[rule.id] = Failures(before.times + 1 if before else 1, str(error))
