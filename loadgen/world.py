"""A simulated world of accounts: who pays whom, how much and when; seeded, pure, reproducible.

Accounts differ in how often they pay, in their usual amounts (log-normal: most are small, the
tail is heavy), their home currency, the counterparties they know and the hour they are awake.
Fraud scenarios are woven in at their shares. The same seed and the same times give the same
payments. Of all amounts 2 to 4 % are above 900.
"""

import heapq
import math
import random
from bisect import bisect
from collections.abc import Iterable, Iterator
from itertools import accumulate, count
from typing import Final

from loadgen.payments import ORDINARY, Account, Payment, Shot, money
from loadgen.scenarios import SCENARIOS, Scenario, Scene

CURRENCIES: Final = ("EUR", "EUR", "EUR", "EUR", "EUR", "GBP", "USD", "CHF")
"""Home currencies, as often as they stand here: all near par, so that a limit means the same."""
TYPICAL_AMOUNT: Final = 32.0
"""Median over accounts of the amount that an account usually pays."""
SPREAD_BETWEEN: Final = 0.9
"""Spread of the usual amounts between accounts (sigma of the logarithm)."""
SPREAD_WITHIN: Final = (0.8, 1.2)
"""Least and greatest spread of one account's amounts (sigma of the logarithm)."""
PEERS: Final = (3, 9)
"""Fewest and most counterparties that an account knows."""
STRANGER: Final = 0.06
"""Share of ordinary payments that go to somebody new."""
ASLEEP: Final = 0.05
"""How active an account is twelve hours from its best hour, as a share of its best."""
SECONDS_PER_HOUR: Final = 3600
HOURS: Final = 24


class World:
    """Accounts and their payments; one object gives one sequence."""

    def __init__(self, seed: int, *, accounts: int = 10_000) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a simulation
        self.accounts = [self._account(number, accounts) for number in range(accounts)]
        self._cumulative: list[float] = []
        self._hour = -1
        self._planned: list[tuple[float, int, Payment]] = []
        self._order = count()
        self._scenarios = list(_chances())

    def payment(self, at: float) -> Payment:
        """Draw the payment made at a time of the world's clock (seconds); times must not fall."""
        if self._planned and self._planned[0][0] <= at:
            return heapq.heappop(self._planned)[2]
        draw = self._rng.random()
        for chance, scenario in self._scenarios:
            if draw < chance:
                return self._begin(scenario.play(self._scene(at)), at)
            draw -= chance
        return self._ordinary(self._awake(at))

    def shots(self, due: Iterable[float], *, start: float, batch: int) -> Iterator[Shot]:
        """Pair each due time with the payments that are sent then.

        Args:
            due: seconds from the start, in order.
            start: the world's clock at the start: seconds since some midnight.
            batch: payments in each shot.
        """
        for seconds in due:
            at = start + seconds
            yield Shot(seconds, [self.payment(at) for _ in range(batch)])

    def _account(self, number: int, accounts: int) -> Account:
        rng = self._rng
        known = min(rng.randint(*PEERS), accounts - 1)
        return Account(
            name=f"acc-{number:06d}",
            currency=rng.choice(CURRENCIES),
            typical=TYPICAL_AMOUNT * math.exp(rng.gauss(0, SPREAD_BETWEEN)),
            spread=rng.uniform(*SPREAD_WITHIN),
            # Pareto: a few accounts make a large part of all payments.
            activity=min(rng.paretovariate(1.5), 50.0),
            best_hour=rng.gauss(14, 4) % HOURS,
            # Never itself: the step round the ring of accounts is less than a whole turn.
            peers=tuple((number + rng.randint(1, accounts - 1)) % accounts for _ in range(known)),
        )

    def _begin(self, story: Iterable[tuple[float, Payment]], at: float) -> Payment:
        """Give a scenario's first payment and plan the others."""
        (_, first), *others = story
        for seconds, payment in others:
            heapq.heappush(self._planned, (at + seconds, next(self._order), payment))
        return first

    def _ordinary(self, source: Account) -> Payment:
        rng = self._rng
        if rng.random() < STRANGER:
            target = self._other(source)
        else:
            target = self.accounts[source.peers[int(rng.random() * len(source.peers))]]
        amount = money(source.typical * math.exp(rng.gauss(0, source.spread)))
        return Payment(source.name, target.name, amount, source.currency, ORDINARY)

    def _scene(self, at: float) -> Scene:
        return Scene(self._rng, self._awake(at), self._other, self._ordinary)

    def _other(self, account: Account) -> Account:
        while True:
            other = self.accounts[int(self._rng.random() * len(self.accounts))]
            if other is not account:
                return other

    def _awake(self, at: float) -> Account:
        """Draw an account by how active it is at this hour of the day."""
        hour = int(at // SECONDS_PER_HOUR) % HOURS
        if hour != self._hour:
            self._hour = hour
            self._cumulative = list(accumulate(_activity(each, hour) for each in self.accounts))
        return self.accounts[bisect(self._cumulative, self._rng.random() * self._cumulative[-1])]


def _activity(account: Account, hour: int) -> float:
    swing = (1 + math.cos((hour - account.best_hour) * 2 * math.pi / HOURS)) / 2
    return account.activity * (ASLEEP + (1 - ASLEEP) * swing)


def _chances() -> Iterator[tuple[float, Scenario]]:
    """Turn shares of payments into chances that a scenario begins with a free draw.

    A scenario of n payments takes n-1 later draws that are then not free.
    """
    taken = sum(each.share * (1 - 1 / each.payments) for each in SCENARIOS)
    for each in SCENARIOS:
        yield each.share / each.payments / (1 - taken), each
