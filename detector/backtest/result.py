"""What a backtest finds: counts, differences with examples, what each rule did and cost."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple, Self

from detector.backtest.cost import Cost
from detector.engine import MAX_SCORE, Decided
from detector.rules import RuleSet
from wire.messages import EARLIEST_MS, Decision, Reason, Transaction, instant

_LABELS: Final[dict[str, Decision]] = {
    **dict.fromkeys(("fraud", "1", "1.0", "true", "yes"), "fraud"),
    **dict.fromkeys(("legit", "0", "0.0", "false", "no"), "legit"),
}
MAX_BUCKETS: Final = 120
FIRST_BUCKET_MS: Final = 1_000


class Reference(NamedTuple):
    """What a decision is compared with: a recorded verdict, a label, or other rules' decision."""

    decision: Decision
    score: int | None = None
    """None where only the decision is known: a label."""
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def of_label(cls, value: object) -> Self | None:
        """Read fraud or legit, 1 or 0, true or false, yes or no; None if it is none of them."""
        decision = _LABELS.get(str(value).strip().lower())
        return cls(decision) if decision else None


class Confusion(Counter[tuple[Decision, Decision]]):
    """How often (reference, decision) came together; fraud is the positive."""

    @property
    def hits(self) -> int:
        """True positives."""
        return self["fraud", "fraud"]

    @property
    def precision(self) -> float | None:
        """Of what is called fraud, the share that is; None if nothing is."""
        return _share(self.hits, self.hits + self["legit", "fraud"])

    @property
    def recall(self) -> float | None:
        """Of what is fraud, the share that is called so; None if nothing is."""
        return _share(self.hits, self.hits + self["fraud", "legit"])

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall."""
        missed = self["legit", "fraud"] + self["fraud", "legit"]
        return _share(2 * self.hits, 2 * self.hits + missed)


class Difference(NamedTuple):
    """One transaction on which decision and reference differ, and why."""

    transaction_id: str
    source: str
    target: str
    amount: Decimal
    currency: str
    received_at: datetime
    reference: Reference | None
    """None: no verdict is recorded."""
    decided: Decided


@dataclass
class RuleResult:
    """What one rule did."""

    id: str
    kind: str
    shadow: bool
    hits: int = 0
    hits_on_fraud: int = 0
    """Hits where the reference says fraud."""
    cost: Cost = field(default_factory=Cost)
    """Of one check; the upkeep of windows is not in it."""


@dataclass
class Timeline:
    """Decisions by time, in at most MAX_BUCKETS buckets: their width doubles as need be."""

    width_ms: int = FIRST_BUCKET_MS
    buckets: dict[int, Counter[Decision]] = field(default_factory=dict)

    def add(self, time_ms: int, decision: Decision) -> None:
        """Count a decision."""
        bucket = self.buckets.get(time_ms // self.width_ms)
        if bucket is None:
            bucket = self._open(time_ms)
        bucket[decision] += 1

    def _open(self, time_ms: int) -> Counter[Decision]:
        self.buckets[time_ms // self.width_ms] = Counter()
        while max(self.buckets) - min(self.buckets) >= MAX_BUCKETS:
            self._widen()
        return self.buckets[time_ms // self.width_ms]

    def _widen(self) -> None:
        self.width_ms *= 2
        wider: dict[int, Counter[Decision]] = {}
        for number, counts in self.buckets.items():
            wider.setdefault(number // 2, Counter()).update(counts)
        self.buckets = wider

    def __iter__(self) -> Iterator[tuple[int, Counter[Decision]]]:
        """Give each bucket's begin (ms) and counts, the empty ones between too."""
        if self.buckets:
            for number in range(min(self.buckets), max(self.buckets) + 1):
                begin_ms = max(number * self.width_ms, EARLIEST_MS)
                yield begin_ms, self.buckets.get(number, Counter())


class Result:
    """All that a backtest finds."""

    def __init__(self, rules: RuleSet, compared_with: str, most_examples: int) -> None:
        self.rules = rules
        self.compared_with = compared_with
        self.replayed = 0
        """Records read for the windows alone, from before the range."""
        self.refused = 0
        """Records that are no transaction."""
        self.duplicates = 0
        self.decisions: Counter[Decision] = Counter()
        self.evicted = 0
        """Window entries that went early: windows were too small for exact results."""
        self.failures: Counter[str] = Counter()
        """By rule: conditions without an answer."""
        self.cost = Cost()
        """Of one decision, windows included."""
        self.confusion = Confusion()
        self.missing = 0
        """Decided here, with nothing to compare with."""
        self.extra = 0
        """Verdicts recorded for what was not decided here, or recorded twice."""
        self.changed = 0
        """The decision is the same; score or reasons are not."""
        self.examples: dict[str, list[Difference]] = {
            "became fraud": [],
            "became legit": [],
            "changed": [],
            "missing": [],
        }
        self.rule_results = {
            rule.id: RuleResult(rule.id, rule.kind, rule.shadow) for rule in rules.rules
        }
        self.timeline = Timeline()
        self.scores: Counter[tuple[Decision | None, int]] = Counter()
        """How often (reference's decision, score) came together."""
        self._most_examples = most_examples

    @property
    def flips(self) -> int:
        """Transactions decided otherwise than the reference."""
        return self.confusion["legit", "fraud"] + self.confusion["fraud", "legit"]

    @property
    def same(self) -> bool:
        """True if nothing differs in any way from what it was compared with."""
        return not (self.flips or self.changed or self.missing or self.extra)

    @property
    def decided(self) -> int:
        """Transactions decided."""
        return self.decisions.total()

    def add(
        self,
        transaction: Transaction,
        received_ms: int,
        decided: Decided,
        reference: Reference | None,
        *,
        expected: bool,
    ) -> None:
        """Take in one decision; `expected` is True where there should be a reference."""
        self.decisions[decided.decision] += 1
        self.timeline.add(received_ms, decided.decision)
        self.scores[reference and reference.decision, decided.score] += 1
        for reason in decided.reasons:
            rule = self.rule_results[reason.rule]
            rule.hits += 1
            rule.hits_on_fraud += reference is not None and reference.decision == "fraud"
        if reference is not None:
            self.confusion[reference.decision, decided.decision] += 1
        difference = _difference(decided, reference) if reference or expected else None
        if difference is None:
            return
        self.changed += difference == "changed"
        self.missing += difference == "missing"
        examples = self.examples[difference]
        if len(examples) < self._most_examples:
            examples.append(
                Difference(
                    transaction.transaction_id,
                    transaction.source,
                    transaction.target,
                    transaction.amount,
                    transaction.currency,
                    instant(received_ms),
                    reference,
                    decided,
                )
            )

    def thresholds(self) -> Iterator[tuple[int, Confusion]]:
        """Give the confusion that each threshold from 1 to 100 would have made.

        One that an allow list let pass has score 0, and stays legit.
        """
        for threshold in range(1, MAX_SCORE + 1):
            confusion = Confusion()
            for (reference, score), count in self.scores.items():
                if reference is not None:
                    decision: Decision = "fraud" if score >= threshold else "legit"
                    confusion[reference, decision] += count
            yield threshold, confusion


def _difference(decided: Decided, reference: Reference | None) -> str | None:
    if reference is None:
        return "missing"
    if reference.decision != decided.decision:
        return f"became {decided.decision}"
    if reference.score is None:
        return None
    same = (reference.score, reference.reasons) == (decided.score, decided.reasons)
    return None if same else "changed"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def told(reasons: Iterable[Reason]) -> list[str]:
    """Write reasons for people."""
    return [f"{each.rule}: {each.detail}{' (shadow)' if each.shadow else ''}" for each in reasons]
