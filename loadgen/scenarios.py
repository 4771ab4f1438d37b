"""The fraud scenarios: how each shows in payments, how many it takes, and how often it comes."""

import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from loadgen.payments import FRAUD, ORDINARY, Account, Payment, money

LIMIT: Final = 900
"""The amount that scenarios know of: over it, or just under it."""
Story = Iterator[tuple[float, Payment]]
"""Payments, each with the seconds from the scenario's beginning; the first is at 0."""


class Scene(NamedTuple):
    """Where a scenario is played."""

    rng: random.Random
    actor: Account
    """Whose account it is about."""
    other: Callable[[Account], Account]
    """Gives any account but the one named."""
    ordinary: Callable[[Account], Payment]
    """Gives a payment as the account usually makes it."""


class Scenario(NamedTuple):
    """A kind of fraud."""

    label: str
    payments: float
    """Payments it takes on average."""
    share: float
    """Share of all payments that belong to it."""
    play: Callable[[Scene], Story]


def _over_limit(scene: Scene) -> Story:
    """One payment over the limit, with a heavy tail."""
    amount = money(LIMIT * scene.rng.paretovariate(2.0)) + Decimal("0.01")
    yield 0.0, _payment(scene, amount, scene.other(scene.actor), "over_limit")


def _burst(scene: Scene) -> Story:
    """Many payments of usual size from one account within half a minute."""
    at = 0.0
    for _ in range(scene.rng.randint(8, 20)):
        usual = scene.ordinary(scene.actor)
        yield at, usual._replace(label="burst")
        at += scene.rng.uniform(0.2, 3.0)


def _structuring(scene: Scene) -> Story:
    """A large sum in parts, each just under the limit, to the same target."""
    target = scene.other(scene.actor)
    at = 0.0
    for _ in range(scene.rng.randint(4, 8)):
        amount = money(scene.rng.uniform(LIMIT * 0.95, LIMIT - 0.01))
        yield at, _payment(scene, amount, target, "structuring")
        at += scene.rng.uniform(2.0, 15.0)


def _takeover(scene: Scene) -> Story:
    """Somebody else at the account: far above its habits, to strangers, in a foreign currency."""
    currency = "USD" if scene.actor.currency != "USD" else "EUR"
    at = 0.0
    for _ in range(scene.rng.randint(3, 5)):
        amount = money(max(200.0, scene.actor.typical * scene.rng.uniform(8, 40)))
        payment = _payment(scene, amount, scene.other(scene.actor), "takeover")
        yield at, payment._replace(currency=currency)
        at += scene.rng.uniform(1.0, 8.0)


def _mule(scene: Scene) -> Story:
    """Many pay into one account, and it passes the sum on."""
    total = Decimal(0)
    at = 0.0
    for _ in range(scene.rng.randint(6, 10)):
        amount = money(scene.rng.uniform(60, 400))
        total += amount
        sender = scene.other(scene.actor)
        yield at, Payment(sender.name, scene.actor.name, amount, sender.currency, "mule")
        at += scene.rng.uniform(0.5, 5.0)
    passed_on = money(float(total) * scene.rng.uniform(0.85, 0.97))
    yield at, _payment(scene, passed_on, scene.other(scene.actor), "mule")


def _payment(scene: Scene, amount: Decimal, target: Account, label: str) -> Payment:
    return Payment(scene.actor.name, target.name, amount, scene.actor.currency, label)


SCENARIOS: Final = (
    Scenario("over_limit", 1, 0.022, _over_limit),
    Scenario("burst", 14, 0.005, _burst),
    Scenario("structuring", 6, 0.005, _structuring),
    Scenario("takeover", 4, 0.004, _takeover),
    Scenario("mule", 9, 0.004, _mule),
)
LABELS: Final = (ORDINARY, *(each.label for each in SCENARIOS), FRAUD)
"""All that a payment can have."""
