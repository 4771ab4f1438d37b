"""Auditing the log: each record of the transactions topic is owed one outcome, and only one.

A transaction is owed a verdict, a record that is none a dead letter. Outcomes may be read before
what they are about. Memory is bounded: of what is undecided, of what was decided lately and of
what is not known yet, at most a window's worth is remembered, as 64-bit hashes.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loadgen.payments import Expectation
from wire.messages import Transaction, Verdict


@dataclass
class Findings:
    """What an audit counts; records of the transactions topic unless it says otherwise."""

    transactions: int = 0
    repeats: int = 0
    """Sent again by a client: the same id from the same source; owed no verdict of their own."""
    poison: int = 0
    """No transactions: owed a dead letter."""
    verdicts: int = 0
    """Verdicts matched with a transaction."""
    fraud: int = 0
    """Those that say fraud."""
    dead_letters: int = 0
    """Dead letters matched with a record."""
    lost: int = 0
    """Without an outcome."""
    duplicate: int = 0
    """Outcomes of what already had one."""
    misclassified: int = 0
    """Verdicts that say other than the expected rule."""
    unknown: int = 0
    """Outcomes of nothing that is in the log."""
    foreign: int = 0
    """Records of the verdict and dead-letter topics that are no outcome: someone else's."""

    @property
    def ok(self) -> bool:
        """Tell whether each record had its one, right outcome."""
        return not (self.lost or self.duplicate or self.misclassified or self.unknown)


class Audit:
    """Matches records with outcomes, in whatever order they are read."""

    def __init__(self, *, window: int, expect: Expectation) -> None:
        self.findings = Findings()
        self._window = window
        self._expect = expect
        # In the order in which they came, the oldest first. The early ones: whether it was fraud,
        # None for a dead letter, and when what they are about was written.
        self._pending: dict[int, Decimal | None] = {}
        self._decided: dict[int, None] = {}
        self._early: dict[int, tuple[bool | None, datetime | None]] = {}

    @property
    def pending(self) -> int:
        """Records without an outcome so far."""
        return len(self._pending)

    @property
    def early(self) -> int:
        """Outcomes of what was not read so far."""
        return len(self._early)

    def transaction(self, transaction: Transaction) -> None:
        """Enter a transaction of the log."""
        key = hash((transaction.source, transaction.transaction_id))
        if key in self._pending or key in self._decided:
            self.findings.repeats += 1
            return
        self.findings.transactions += 1
        self._owe(key, transaction.amount)

    def poison(self, *place: Hashable) -> None:
        """Enter a record that is no transaction, by its place in the log."""
        self.findings.poison += 1
        self._owe(hash(place), None)

    def verdict(self, verdict: Verdict) -> None:
        """Enter a verdict."""
        key = hash((verdict.source, verdict.transaction_id))
        self._outcome(key, fraud=verdict.decision == "fraud", about=verdict.received_at)

    def dead_letter(self, *place: Hashable) -> None:
        """Enter a dead letter, by the place of what it is about."""
        self._outcome(hash(place), fraud=None, about=None)

    def foreign(self) -> None:
        """Enter a record that is no outcome, where outcomes lie; it is nobody's fault."""
        self.findings.foreign += 1

    def close(self, *, until: datetime) -> None:
        """Judge what is left; outcomes of what came later than the audit looked are no matter."""
        self.findings.lost += len(self._pending)
        self._pending.clear()
        self.findings.unknown += sum(
            about is not None and about < until for _, about in self._early.values()
        )
        self._early.clear()

    def _owe(self, key: int, amount: Decimal | None) -> None:
        if key in self._early:
            fraud, _ = self._early.pop(key)
            self._settle(key, amount, fraud=fraud)
            return
        self._pending[key] = amount
        if len(self._pending) > self._window:
            del self._pending[next(iter(self._pending))]
            self.findings.lost += 1

    def _outcome(self, key: int, *, fraud: bool | None, about: datetime | None) -> None:
        if key in self._pending:
            self._settle(key, self._pending.pop(key), fraud=fraud)
        elif key in self._decided or key in self._early:
            self.findings.duplicate += 1
        else:
            self._early[key] = fraud, about
            if len(self._early) > self._window:
                del self._early[next(iter(self._early))]
                self.findings.unknown += 1

    def _settle(self, key: int, amount: Decimal | None, *, fraud: bool | None) -> None:
        self._decided[key] = None
        if len(self._decided) > self._window:
            del self._decided[next(iter(self._decided))]
        if fraud is None:
            self.findings.dead_letters += 1
            return
        self.findings.verdicts += 1
        self.findings.fraud += fraud
        if amount is not None and self._expect != "unknown":
            self.findings.misclassified += fraud != (amount > self._expect)
