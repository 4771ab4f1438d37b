"""Matching verdicts with what was sent, in bounded memory.

The run numbers its transactions 1, 2, 3, ... A window over the last numbers holds, for each, nine
bytes and its label: when it was due, what verdict is expected, whether it was acknowledged and
whether its verdict has come. A number that leaves the window acknowledged and without a verdict
is lost; a verdict on a number within the window is matched once and a duplicate after that.
"""

from array import array
from decimal import Decimal
from typing import Final

from loadgen.measure import Tally
from loadgen.payments import Expectation
from loadgen.scenarios import LABELS

_ACCEPTED: Final = 1
_DECIDED: Final = 2
_EXPECT_FRAUD: Final = 4
_EXPECT_LEGIT: Final = 8
_LABEL_NUMBERS: Final = {label: number for number, label in enumerate(LABELS)}


class Ledger:
    """What was sent lately, and what is known of it."""

    def __init__(self, tally: Tally, *, window: int, expect: Expectation) -> None:
        self.pending = 0
        """Acknowledged, within the window, and still without a verdict."""
        self._tally = tally
        self._window = window
        self._expect = expect
        self._last = 0
        self._since = array("d", bytes(8 * window))
        self._flags = bytearray(window)
        self._labels = bytearray(window)

    def sent(self, number: int, *, since: float, amount: Decimal, label: str) -> None:
        """Enter a transaction; numbers go up by one.

        Args:
            number: from 1.
            since: the clock's reading at which it was due.
            amount: decides on the expected verdict.
            label: the scenario it belongs to.
        """
        slot = number % self._window
        if self._flags[slot] & (_ACCEPTED | _DECIDED) == _ACCEPTED:
            self._tally.lost += 1
            self.pending -= 1
        self._last = number
        self._since[slot] = since
        self._flags[slot] = self._expected(amount)
        self._labels[slot] = _LABEL_NUMBERS[label]

    def accepted(self, number: int) -> None:
        """Note that the target took it: from now on a verdict is owed."""
        if not self._within(number):  # nobody knows any more whether its verdict has come
            self._tally.forgotten += 1
            return
        slot = number % self._window
        self._flags[slot] |= _ACCEPTED
        if not self._flags[slot] & _DECIDED:
            self.pending += 1

    def decided(self, number: int, *, fraud: bool, at: float) -> None:
        """Match a verdict that came at this reading of the clock."""
        tally = self._tally
        if not self._within(number):
            tally.forgotten += 1
            return
        slot = number % self._window
        flags = self._flags[slot]
        if flags & _DECIDED:
            tally.duplicate += 1
            return
        self._flags[slot] = flags | _DECIDED
        if flags & _ACCEPTED:
            self.pending -= 1
        tally.verdicts += 1
        tally.verdict_latency.record(at - self._since[slot])
        if fraud:
            tally.fraud += 1
            tally.caught[LABELS[self._labels[slot]]] += 1
        if flags & (_EXPECT_LEGIT if fraud else _EXPECT_FRAUD):
            tally.misclassified += 1

    def close(self) -> None:
        """Count what is still owed as lost, and verdicts nobody was promised as such."""
        self._tally.lost += self.pending
        self.pending = 0
        for expected in (0, _EXPECT_FRAUD, _EXPECT_LEGIT):
            self._tally.unaccepted += self._flags.count(_DECIDED | expected)

    def _within(self, number: int) -> bool:
        return self._last - self._window < number <= self._last

    def _expected(self, amount: Decimal) -> int:
        if self._expect == "unknown":
            return 0
        return _EXPECT_FRAUD if amount > self._expect else _EXPECT_LEGIT
