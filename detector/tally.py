"""How many transactions, or how much money, each account has within a window.

The rules of time, replay and bound are those of windows.py.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from typing import Final

from detector.windows import SEPARATOR
from wire.messages import DEFAULT_CURRENCY, Transaction

UNITS_PER_ONE: Final = 10_000
"""Amounts are summed as whole numbers of 1/10000, the finest amount there is."""
_UNITS: Final = Decimal(UNITS_PER_ONE)


@dataclass(frozen=True, slots=True)
class TallySpec:
    """Which transactions are tallied, how, and how far back."""

    window_ms: int
    sums: bool = False
    """Add up amounts, each of an account's currencies for itself; else count transactions."""
    currency: str | None = None
    """Those in this currency only; None: in any."""
    least: Decimal | None = None
    """Those of at least this amount; None: of any."""
    most: Decimal | None = None
    """Those of at most this amount; None: of any."""

    def open(self, entries: int) -> "Tally":
        """Make the window, empty."""
        return Tally(self, entries)

    def tallied(self, transactions: Sequence[Transaction]) -> Sequence[int]:
        """Give the positions of those that are tallied."""
        found: Sequence[int] = range(len(transactions))
        if (currency := self.currency) is not None:
            found = [each for each in found if transactions[each].currency == currency]
        if (least := self.least) is not None:
            found = [each for each in found if transactions[each].amount >= least]
        if (most := self.most) is not None:
            found = [each for each in found if transactions[each].amount <= most]
        return found


class _Account:
    """What a tally has of one account at this moment."""

    __slots__ = ("key", "total")

    def __init__(self, key: str) -> None:
        self.key = key
        self.total = 0


class _Accounts(dict[str, _Account]):
    def __missing__(self, key: str) -> _Account:
        account = self[key] = _Account(key)
        return account


class Tally:
    """Each account's total, within the window; an entry a transaction."""

    __slots__ = (
        "_accounts",
        "_entries",
        "_owners",
        "_spec",
        "_sums",
        "_times",
        "_weights",
        "_window_ms",
        "evicted",
        "totals",
    )

    def __init__(self, spec: TallySpec, entries: int) -> None:
        self.totals: list[int] = []
        """Of each transaction added last, its account's total (a count, or units of 1/10000) that
        includes it; 0 if it is not one that is tallied."""
        self.evicted = 0
        self._spec = spec
        self._sums, self._window_ms = spec.sums, spec.window_ms
        self._entries = entries
        # One whose total is 0 has no entries: each adds something.
        self._accounts = _Accounts()
        # One queue, oldest entry first, in columns: as tuples it would cost twice as much, and
        # the garbage collector would visit every one of them.
        self._times: deque[int] = deque()
        self._owners: deque[_Account] = deque()
        self._weights: deque[int] = deque()
        """Units of each entry; stays empty where each counts 1."""

    def __len__(self) -> int:
        return len(self._times)

    def add(self, transactions: Sequence[Transaction], times_ms: Sequence[int]) -> None:
        """Take in those of consecutive transactions that are tallied, each at its stream time."""
        tallied = self._spec.tallied(transactions)
        if len(tallied) == len(transactions):
            self.totals = self._add(transactions, times_ms)
            return
        totals = [0] * len(transactions)
        chosen = [transactions[each] for each in tallied]
        found = self._add(chosen, [times_ms[each] for each in tallied])
        for position, total in zip(tallied, found, strict=True):
            totals[position] = total
        self.totals = totals
        self._expire(times_ms[-1])

    def _add(self, transactions: Sequence[Transaction], times_ms: Sequence[int]) -> list[int]:
        if not transactions:
            return []
        weights: Sequence[int] = ()
        if self._sums:
            keys = [_by_currency(each) for each in transactions]
            weights = [int(each.amount * _UNITS) for each in transactions]
        else:
            keys = [each.source for each in transactions]
        owners = list(map(self._accounts.__getitem__, keys))
        times, window_ms, entries = self._times, self._window_ms, self._entries
        held = len(times)
        # All go into the queue first. None is let go before its turn: each one's turn makes it the
        # newest that counts, and what goes is the oldest.
        times.extend(times_ms)
        self._owners.extend(owners)
        self._weights.extend(weights)
        expires_ms = times[0] + window_ms
        emptied: list[_Account] = []
        totals: list[int] = []
        answer = totals.append
        weighed = weights or repeat(1, len(keys))
        for owner, time_ms, weight in zip(owners, times_ms, weighed, strict=True):
            while expires_ms <= time_ms:
                self._drop_oldest(emptied)
                held -= 1
                expires_ms = times[0] + window_ms
            if held < entries:
                held += 1
            else:
                self._drop_oldest(emptied)
                self.evicted += 1
                expires_ms = times[0] + window_ms
            owner.total = total = owner.total + weight
            answer(total)
        self._forget(emptied)
        return totals

    def _expire(self, now_ms: int) -> None:
        emptied: list[_Account] = []
        while self._times and self._times[0] + self._window_ms <= now_ms:
            self._drop_oldest(emptied)
        self._forget(emptied)

    def _drop_oldest(self, emptied: list[_Account]) -> None:
        self._times.popleft()
        account = self._owners.popleft()
        account.total -= self._weights.popleft() if self._sums else 1
        if not account.total:
            emptied.append(account)

    def _forget(self, emptied: list[_Account]) -> None:
        for account in emptied:  # unless there was something for it since
            if not account.total:
                self._accounts.pop(account.key, None)


def _by_currency(transaction: Transaction) -> str:
    if transaction.currency == DEFAULT_CURRENCY:  # no account has a separator in it
        return transaction.source
    return f"{transaction.source}{SEPARATOR}{transaction.currency}"
