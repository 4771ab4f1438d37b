"""Auditing the log: each record of the transactions topic is owed one outcome, and only one.

A transaction is owed a verdict, unless it repeats one that was there lately; a record that is none
is owed a dead letter. How long ago that was is told by the records' time in their partition, as the
detector has it (docs/rules.md). Outcomes may be read before what they are about. Memory is bounded:
of what is undecided, of what was there lately and of what is not known yet, at most a window's
worth is remembered, as 64-bit hashes.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from loadgen.payments import Expectation
from wire.messages import Transaction, Verdict

_NEVER_MS: Final = -(1 << 64)
"""Before all times, whatever a record is stamped with."""


@dataclass
class Findings:
    """What an audit counts; records of the transactions topic unless it says otherwise."""

    transactions: int = 0
    repeats: int = 0
    """Sent again by a client, soon: the same id from the same source; owed no verdict."""
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
    forgotten: int = 0
    """Ids that memory had no room for any more while a repeat was still a repeat: one would have
    been taken for a transaction of its own, and lost."""

    @property
    def ok(self) -> bool:
        """Tell whether each record had its one, right outcome."""
        return not (self.lost or self.duplicate or self.misclassified or self.unknown)


class _Last(NamedTuple):
    """When something was there last."""

    time_ms: int
    """The time of its partition then."""
    stamp_ms: int
    """The latest timestamp of its own records: the partition's time may be far ahead of them."""


_ONCE: Final = _Last(_NEVER_MS, _NEVER_MS)
"""When what can't be repeated was there."""


class _Early(NamedTuple):
    """An outcome of what was not read so far."""

    fraud: bool | None
    """None for a dead letter."""
    about_ms: int | None
    """The timestamp of what it is about; None for a dead letter."""


class Audit:
    """Matches records with outcomes, in whatever order they are read."""

    def __init__(self, *, window: int, duplicates_ms: int, expect: Expectation) -> None:
        """Make one that has seen nothing.

        Args:
            window: how much is remembered of each kind.
            duplicates_ms: how long after an id was there last it repeats: the rules' `duplicates`.
            expect: which verdicts are right.
        """
        self.findings = Findings()
        self.pending = 0
        """Records without an outcome so far."""
        self.early = 0
        """Outcomes of what was not read so far."""
        self._window = window
        self._duplicates_ms = duplicates_ms
        self._expect = expect
        self._time_ms: dict[int, int] = {}
        """The latest timestamp so far, by partition."""
        # Each has the oldest first; in an ordinary dict, to find that one takes ever longer.
        self._known: OrderedDict[int, _Last] = OrderedDict()
        """When each was there last; of poison, _ONCE."""
        # An id that comes again later is owed once more: so there may be several of one.
        self._pending: OrderedDict[int, tuple[Decimal | None, ...]] = OrderedDict()
        """What is owed to each: the amounts, None for a dead letter."""
        self._early: OrderedDict[int, tuple[_Early, ...]] = OrderedDict()

    def transaction(self, transaction: Transaction, partition: int, at_ms: int) -> None:
        """Enter a transaction of the log, in the order of its partition."""
        key = _key(transaction)
        if not self._repeats(key, partition, at_ms):
            self.findings.transactions += 1
            self._owe(key, transaction.amount)
            return
        self.findings.repeats += 1
        early = self._early.get(key)
        if early and early[0].about_ms is not None and early[0].about_ms <= at_ms:
            self._take_early(key)
            self.findings.duplicate += 1

    def before(self, transaction: Transaction, partition: int, at_ms: int) -> None:
        """Note a transaction from before what is judged: it may be repeated there."""
        self._repeats(_key(transaction), partition, at_ms)

    def poison(self, topic: str, partition: int, offset: int, at_ms: int) -> None:
        """Enter a record that is no transaction, by its place in the log."""
        self.findings.poison += 1
        key = hash((topic, partition, offset))
        self._know(key, _ONCE, now_ms=self._time_ms.get(partition, at_ms))
        self._owe(key, None)

    def verdict(self, verdict: Verdict) -> None:
        """Enter a verdict."""
        self._outcome(_key(verdict), _Early(verdict.decision == "fraud", _ms(verdict.received_at)))

    def dead_letter(self, *place: Hashable) -> None:
        """Enter a dead letter, by the place of what it is about."""
        self._outcome(hash(place), _Early(None, None))

    def foreign(self) -> None:
        """Enter a record that is no outcome, where outcomes lie; it is nobody's fault."""
        self.findings.foreign += 1

    def close(self, *, until: datetime) -> None:
        """Judge what is left; outcomes of what came later than the audit looked are no matter."""
        self.findings.lost += self.pending
        self.findings.unknown += sum(
            each.about_ms is not None and each.about_ms < _ms(until)
            for several in self._early.values()
            for each in several
        )
        self._pending.clear()
        self._early.clear()
        self.pending = self.early = 0

    def _repeats(self, key: int, partition: int, at_ms: int) -> bool:
        now_ms = max(at_ms, self._time_ms.get(partition, at_ms))
        self._time_ms[partition] = now_ms
        last = self._known.get(key)
        stamp_ms = at_ms if last is None else max(at_ms, last.stamp_ms)
        self._know(key, _Last(now_ms, stamp_ms), now_ms=now_ms)
        return last is not None and now_ms - last.time_ms < self._duplicates_ms

    def _know(self, key: int, last: _Last, *, now_ms: int) -> None:
        self._known[key] = last
        self._known.move_to_end(key)
        if len(self._known) > self._window:
            _, oldest = self._known.popitem(last=False)
            self.findings.forgotten += now_ms - oldest.time_ms < self._duplicates_ms

    def _owe(self, key: int, amount: Decimal | None) -> None:
        if key in self._early:
            self._settle(amount, fraud=self._take_early(key).fraud)
            return
        self._pending[key] = (*self._pending.get(key, ()), amount)
        self.pending += 1
        if self.pending > self._window:
            key, several = self._pending.popitem(last=False)
            self._known.pop(key, None)  # it had no outcome: one that comes yet is no second one
            self.pending -= len(several)
            self.findings.lost += len(several)

    def _outcome(self, key: int, outcome: _Early) -> None:
        if owed := self._pending.pop(key, ()):
            amount, *others = owed
            if others:
                self._pending[key] = tuple(others)
            self.pending -= 1
            self._settle(amount, fraud=outcome.fraud)
        elif self._doubles(key, outcome.about_ms):
            self.findings.duplicate += 1
        else:
            self._early[key] = (*self._early.get(key, ()), outcome)
            self.early += 1
            if self.early > self._window:
                _, several = self._early.popitem(last=False)
                self.early -= len(several)
                self.findings.unknown += len(several)

    def _doubles(self, key: int, about_ms: int | None) -> bool:
        """Tell whether an outcome is of what has had its own, and not of an id that came again.

        A verdict says when the record that it is about was made; one made later was not read yet.
        """
        if several := self._early.get(key):
            before_ms = several[-1].about_ms
        elif last := self._known.get(key):
            before_ms = last.stamp_ms
        else:
            return False
        return about_ms is None or before_ms is None or about_ms <= before_ms

    def _take_early(self, key: int) -> _Early:
        first, *others = self._early.pop(key)
        if others:
            self._early[key] = tuple(others)
        self.early -= 1
        return first

    def _settle(self, amount: Decimal | None, *, fraud: bool | None) -> None:
        if fraud is None:
            self.findings.dead_letters += 1
            return
        self.findings.verdicts += 1
        self.findings.fraud += fraud
        if amount is not None and self._expect != "unknown":
            self.findings.misclassified += fraud != (amount > self._expect)


def _key(about: Transaction | Verdict) -> int:
    return hash((about.source, about.transaction_id))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
