"""The engine: what the rules say of each transaction of one partition, in the order of the log.

Pure: no Kafka, no clock, no I/O. The same records give the same decisions, byte for byte.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, compress
from typing import Final, NamedTuple

from msgspec import Struct

from detector.rules import Check, Finding, NoAnswer, Rule, RuleSet
from detector.windows import DEFAULT_LIMITS, SEPARATOR, Recent, WindowLimits, Windows
from wire.messages import Decision, Reason, Transaction

MAX_SCORE: Final = 100


class Decided(Struct, frozen=True, gc=False):
    """What the rules say of one transaction."""

    decision: Decision
    score: int
    """The weights of the rules that hit, added up to 100 at most."""
    reasons: tuple[Reason, ...]
    """The rules that hit, in the file's order, those in shadow too."""


class Failures(NamedTuple):
    """How often a rule had no answer, and why the last time; the reason may quote the record."""

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
        self._failures: dict[str, Failures] = {}
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
            (rule, self._watch(rule, rule.check(self._windows))) for rule in rules.rules
        ]

    def fits(self, rules: RuleSet) -> bool:
        """Tell if rules find all that they look back at, so that setting them is enough."""
        if rules.duplicates_ms == (known_ms := self._duplicates.window_ms):
            return rules.windows <= self._windows.specs
        # What a window has counted hangs on what was a duplicate then.
        return rules.duplicates_ms < known_ms and not rules.needs_windows

    @property
    def entries(self) -> int:
        """Window entries held."""
        return len(self._duplicates) + self._windows.entries

    @property
    def evicted(self) -> int:
        """Window entries that went before their time because a window was full."""
        return self._duplicates.evicted + self._windows.evicted

    def failures(self) -> dict[str, Failures]:
        """Give, by id, the rules that had no answer since this was asked last: they did not hit."""
        failures, self._failures = self._failures, {}
        return failures

    def take_in(self, transactions: Sequence[Transaction], received_ms: Sequence[int]) -> None:
        """Move the windows over the next transactions of the partition.

        Args:
            transactions: consecutive ones, as their records say. No window counts duplicates.
            received_ms: each record's timestamp, ms since the epoch. One may be behind those
                before it; windows then count it at the latest of them.
        """
        self._take_in(transactions, received_ms)

    def decide(
        self, transactions: Sequence[Transaction], received_ms: Sequence[int]
    ) -> list[Decided | None]:
        """Take the next transactions in and decide on each; None for a duplicate.

        However the partition's transactions are cut into batches, each is decided alike: by those
        before it.

        Args:
            transactions, received_ms: as in `take_in`.
        """
        fresh = self._take_in(transactions, received_ms)
        if len(fresh) == len(transactions):
            return [*self._decide(transactions, received_ms)]
        decided: list[Decided | None] = [None] * len(transactions)
        found = self._decide(*_pick(fresh, transactions, received_ms))
        for position, each in zip(fresh, found, strict=True):
            decided[position] = each
        return decided

    def _take_in(
        self, transactions: Sequence[Transaction], received_ms: Sequence[int]
    ) -> Sequence[int]:
        """Move the windows; give the positions of those that are no duplicates."""
        times_ms = self._stream_times(received_ms)
        keys = [f"{each.source}{SEPARATOR}{each.transaction_id}" for each in transactions]
        seen = self._duplicates.saw(keys, times_ms)
        fresh: Sequence[int] = range(len(seen))
        if any(seen):
            fresh = [position for position in fresh if not seen[position]]
        if self._moving:
            self._windows.add(*_pick(fresh, transactions, times_ms))
        return fresh

    def _stream_times(self, received_ms: Sequence[int]) -> list[int]:
        times_ms = list(received_ms)
        if not times_ms:
            return times_ms
        if times_ms[0] < self._time_ms or times_ms != sorted(times_ms):
            times_ms[0] = max(times_ms[0], self._time_ms)
            times_ms = list(accumulate(times_ms, max))
        self._time_ms = times_ms[-1]
        return times_ms

    def _decide(
        self, transactions: Sequence[Transaction], received_ms: Sequence[int]
    ) -> list[Decided]:
        """Decide on those that the windows took in last."""
        decided = [NOTHING_FOUND] * len(transactions)
        hit: dict[int, tuple[Rule, ...]] = {}
        for rule, check in self._checks:
            alone = (rule,)
            decision, score = self._weigh(alone)
            name, version, shadow = rule.id, rule.version, rule.shadow
            for position, detail in _findings(rule, check, transactions, received_ms):
                if isinstance(detail, NoAnswer):
                    self._note_failure(rule, detail)
                    continue
                reasons: tuple[Reason, ...] = (Reason(name, version, detail, shadow),)
                if position in hit:
                    hit[position] += alone
                    reasons = decided[position].reasons + reasons
                else:
                    hit[position] = alone
                decided[position] = Decided(decision, score, reasons)
        for position, rules in hit.items():
            if len(rules) > 1:
                decided[position] = self._judge(rules, decided[position].reasons)
        return decided

    def _judge(self, rules: Sequence[Rule], reasons: tuple[Reason, ...]) -> Decided:
        """Decide where several rules hit, each for its reason."""
        if any(map(_decides_legit, rules)):
            # What was not counted is no reason, unless it is on trial.
            reasons = tuple(compress(reasons, [rule.allows or rule.shadow for rule in rules]))
        return Decided(*self._weigh(rules), reasons)

    def _weigh(self, rules: Sequence[Rule]) -> tuple[Decision, int]:
        """Give the decision and the score where these rules hit, and no others."""
        if any(map(_decides_legit, rules)):
            return "legit", 0
        score = min(MAX_SCORE, sum([rule.weight for rule in rules if not rule.shadow]))
        return "fraud" if score >= self._rules.threshold else "legit", score

    def _note_failure(self, rule: Rule, failed: NoAnswer) -> None:
        before = self._failures.get(rule.id)
        self._failures[rule.id] = Failures(before.times + 1 if before else 1, failed.why)


def _decides_legit(rule: Rule) -> bool:
    return rule.allows and not rule.shadow


def _findings(
    rule: Rule, check: Check, transactions: Sequence[Transaction], received_ms: Sequence[int]
) -> list[Finding]:
    """Give what a rule finds. Whatever it stumbles over, it has no answer to that alone."""
    try:
        return list(check(rule.rows(transactions), received_ms))
    except Exception:  # noqa: BLE001 - no record may stop its partition
        found: list[Finding] = []
        for row in rule.rows(transactions):
            try:
                found += check([row], received_ms)
            except Exception as error:  # noqa: BLE001 - this is the one
                found.append((row[0], NoAnswer(f"{type(error).__name__}: {error}")))
        return found


def _pick(
    positions: Sequence[int], transactions: Sequence[Transaction], times_ms: Sequence[int]
) -> tuple[Sequence[Transaction], Sequence[int]]:
    """Give what stands at these positions, in order; all of it where there are as many."""
    if len(positions) == len(transactions):
        return transactions, times_ms
    return [transactions[each] for each in positions], [times_ms[each] for each in positions]
