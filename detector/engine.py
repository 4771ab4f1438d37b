"""The engine: what the rules say of each transaction of one partition, in the order of the log.

Pure: no Kafka, no clock, no I/O. The same records give the same decisions, byte for byte.
"""

from typing import Final, NamedTuple

from detector.rules import RuleSet
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


_NOTHING_FOUND: Final = Decided("legit", 0, ())


class Engine:
    """Rules and windows of one partition: a function of its records, in their order."""

    def __init__(self, rules: RuleSet, limits: WindowLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._time_ms = 0
        self._duplicates = Recent(rules.duplicates_ms, limits.entries)
        self._windows = Windows(limits)
        self.rules = rules

    @property
    def rules(self) -> RuleSet:
        """The rules in force; new ones may be set between two transactions."""
        return self._rules

    @rules.setter
    def rules(self, rules: RuleSet) -> None:
        self._rules = rules
        self._duplicates.window_ms = rules.duplicates_ms
        self._checks = [(rule, rule.check(self._windows)) for rule in rules.rules]
        self._moving = rules.needs_windows

    @property
    def entries(self) -> int:
        """Window entries held."""
        return len(self._duplicates) + self._windows.entries

    @property
    def evicted(self) -> int:
        """Window entries that went before their time because a window was full."""
        return self._duplicates.evicted + self._windows.evicted

    def decide(self, transaction: Transaction, received_ms: int) -> Decided | None:
        """Decide on the next transaction of the partition; None for a duplicate.

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
            return None
        if self._moving:
            self._windows.add(transaction, time_ms)
        score = 0
        reasons = []
        for rule, check in self._checks:
            detail = check(transaction, received_ms)
            if detail is not None:
                reasons.append(Reason(rule.id, rule.version, detail, rule.shadow))
                if not rule.shadow:
                    score += rule.weight
        if not reasons:
            return _NOTHING_FOUND
        score = min(score, MAX_SCORE)
        decision: Decision = "fraud" if score >= self._rules.threshold else "legit"
        return Decided(decision, score, tuple(reasons))
