"""How many transactions, or how much money, each account has within a window.

The rules of time, replay and bound are those of windows.py.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
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

    @property
    def selects(self) -> bool:
        """True when not all transactions are tallied."""
        return (self.currency, self.least, self.most) != (None, None, None)

    def takes(self, transaction: Transaction) -> bool:
        """Tell if a transaction is tallied."""
        return (
            (self.currency is None or transaction.currency == self.currency)
            and (self.least is None or transaction.amount >= self.least)
            and (self.most is None or transaction.amount <= self.most)
        )


class _Account:
    """What a tally has of one account at this moment."""

    __slots__ = ("key", "total")

    def __init__(self, key: str) -> None:
        self.key = key
        self.total = 0


class Tally:
    """Each account's total, within the window; an entry a transaction."""

    __slots__ = (
        "_accounts",
        "_entries",
        "_oldest_ms",
        "_owners",
        "_selects",
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
        self._selects, self._sums, self._window_ms = spec.selects, spec.sums, spec.window_ms
        self._entries = entries
        # One whose total is 0 has no entries: each adds something.
        self._accounts: dict[str, _Account] = {}
        # One queue, oldest entry first, in columns: as tuples it would cost twice as much, and
        # the garbage collector would visit every one of them.
        self._times: deque[int] = deque()
        self._owners: deque[_Account] = deque()
        self._weights: deque[int] = deque()
        """Units of each entry; stays empty where each counts 1."""
        self._oldest_ms = 0
        """No entry is older than this."""

    def __len__(self) -> int:
        return len(self._times)

    def add(self, transactions: Sequence[Transaction], times_ms: Sequence[int]) -> None:
        """Take in those of consecutive transactions that are tallied, each at its stream time."""
        sums, window_ms, entries = self._sums, self._window_ms, self._entries
        takes = self._spec.takes if self._selects else None
        accounts, times = self._accounts, self._times
        stamp, own, weigh = times.append, self._owners.append, self._weights.append
        self.totals = []
        answer = self.totals.append
        weight = 1
        for transaction, time_ms in zip(transactions, times_ms, strict=True):
            if self._oldest_ms <= time_ms - window_ms:
                self._expire(time_ms - window_ms)
            if takes is not None and not takes(transaction):
                answer(0)
                continue
            key = transaction.source
            if sums:
                if transaction.currency != DEFAULT_CURRENCY:  # no account has a separator in it
                    key += SEPARATOR + transaction.currency
                weight = int(transaction.amount * _UNITS)
                weigh(weight)
            account = accounts.get(key)
            if account is None:
                account = accounts[key] = _Account(key)
            account.total += weight
            stamp(time_ms)
            own(account)
            if len(times) > entries:
                self._drop_oldest()
                self.evicted += 1
            answer(account.total)

    def _expire(self, upto_ms: int) -> None:
        times = self._times
        while times:
            self._oldest_ms = times[0]
            if self._oldest_ms > upto_ms:
                return
            self._drop_oldest()
        self._oldest_ms = upto_ms + 1

    def _drop_oldest(self) -> None:
        self._times.popleft()
        account = self._owners.popleft()
        account.total -= self._weights.popleft() if self._sums else 1
        if not account.total:
            del self._accounts[account.key]
