"""How many transactions, and how much, each account has within a window.

The rules of time, replay and bound are those of windows.py.
"""

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from detector.windows import SEPARATOR
from wire.messages import Transaction

UNITS_PER_ONE: Final = 10_000
"""Amounts are summed as whole numbers of 1/10000, the finest amount there is."""


@dataclass(frozen=True, slots=True)
class TallySpec:
    """Which transactions a tally counts, and how far back."""

    window_ms: int
    currency: str | None = None
    """Those in this currency only; None: in any."""
    by_currency: bool = False
    """Tally each of an account's currencies for itself: EUR and JPY don't add up."""
    least: Decimal | None = None
    """Those of at least this amount."""
    most: Decimal | None = None
    """Those of at most this amount."""

    def open(self, entries: int) -> "Tally":
        """Make the window, empty."""
        return Tally(self, entries)

    def counts(self, transaction: Transaction) -> bool:
        """Tell if a transaction is of those."""
        return (
            (self.currency is None or transaction.currency == self.currency)
            and (self.least is None or transaction.amount >= self.least)
            and (self.most is None or transaction.amount <= self.most)
        )


class Account:
    """What a tally has of one account at this moment."""

    __slots__ = ("count", "key", "units")

    def __init__(self, key: str) -> None:
        self.key = key
        self.count = 0
        self.units = 0


_NOT_COUNTED: Final = Account("")


class Tally:
    """Each account's number of transactions and their sum, within the window; an entry each."""

    __slots__ = (
        "_accounts",
        "_entries",
        "_oldest_ms",
        "_owners",
        "_spec",
        "_times",
        "_units",
        "account",
        "evicted",
    )

    def __init__(self, spec: TallySpec, entries: int) -> None:
        self.evicted = 0
        self.account = _NOT_COUNTED
        """The account of the transaction added last; an empty one if that was not counted."""
        self._spec = spec
        self._entries = entries
        self._accounts: dict[str, Account] = {}
        # One queue, oldest entry first, in three columns: as tuples it would cost twice as much,
        # and the garbage collector would visit every one of them.
        self._times: deque[int] = deque()
        self._owners: deque[Account] = deque()
        self._units: deque[int] = deque()
        self._oldest_ms = 0
        """No entry is older than this."""

    def __len__(self) -> int:
        return len(self._times)

    def add(self, transaction: Transaction, time_ms: int) -> None:
        """Take in a transaction at stream time, if it is one that counts here."""
        spec = self._spec
        if self._oldest_ms <= time_ms - spec.window_ms:
            self._expire(time_ms - spec.window_ms)
        if not spec.counts(transaction):
            self.account = _NOT_COUNTED
            return
        key = transaction.source
        if spec.by_currency:
            key += SEPARATOR + transaction.currency
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(key)
        units = int(transaction.amount * UNITS_PER_ONE)
        account.count += 1
        account.units += units
        self.account = account
        self._times.append(time_ms)
        self._owners.append(account)
        self._units.append(units)
        if len(self._times) > self._entries:
            self._drop_oldest()
            self.evicted += 1

    def _expire(self, upto_ms: int) -> None:
        while self._times:
            self._oldest_ms = self._times[0]
            if self._oldest_ms > upto_ms:
                return
            self._drop_oldest()
        self._oldest_ms = upto_ms + 1

    def _drop_oldest(self) -> None:
        self._times.popleft()
        account = self._owners.popleft()
        account.count -= 1
        account.units -= self._units.popleft()
        if not account.count:
            del self._accounts[account.key]
