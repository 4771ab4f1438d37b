"""The simulated world: reproducible by seed, with the shares it states."""

from collections import Counter
from decimal import Decimal
from itertools import islice

import pytest

from loadgen import schedule
from loadgen.payments import ORDINARY, Payment
from loadgen.scenarios import SCENARIOS
from loadgen.world import World
from wire.messages import Transaction, encode
from wire.posted import accept

START = 1_780_000_000.0
RATE = 400.0


def payments(seed: int, count: int, **options: int) -> list[Payment]:
    """Give the first payments of a world at four hundred a second."""
    due = schedule.times(schedule.shape("constant", RATE, 1e9))
    shots = World(seed, **options).shots(due, start=START, batch=1)
    return [shot.payments[0] for shot in islice(shots, count)]


@pytest.fixture(scope="module")
def many() -> list[Payment]:
    """Two hundred seconds of the default world."""
    return payments(1, 80_000)


def test_the_same_seed_gives_the_same_payments() -> None:
    """All of it: who, whom, how much, in which currency, and the label."""
    assert payments(5, 5_000) == payments(5, 5_000)


def test_another_seed_gives_another_world() -> None:
    """Seeds are not ignored."""
    assert payments(5, 100) != payments(6, 100)


def test_batches_hold_what_single_sends_would() -> None:
    """Batching changes when payments go out, not which."""
    due = [0.0, 0.0, 0.0, 0.0]
    singles = [shot.payments[0] for shot in World(3).shots(due, start=START, batch=1)]
    (batch,) = World(3).shots([0.0], start=START, batch=4)
    assert batch.payments == singles


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_to_four_percent_are_above_900(seed: int) -> None:
    """The share that the tutorial's rule calls fraud is the stated one, whatever the seed."""
    found = payments(seed, 20_000)
    assert 0.02 <= sum(payment.amount > 900 for payment in found) / len(found) <= 0.04


def test_each_scenario_takes_its_share(many: list[Payment]) -> None:
    """Within half of the set share once the first minute is over."""
    labels = Counter(payment.label for payment in many[40_000:])
    for each in SCENARIOS:
        assert labels[each.label] / 40_000 == pytest.approx(each.share, rel=0.5)


def test_structuring_stays_just_under_the_limit(many: list[Payment]) -> None:
    """Each part lies between 855 and 899.99."""
    amounts = [payment.amount for payment in many if payment.label == "structuring"]
    assert min(amounts) >= 855
    assert max(amounts) <= Decimal("899.99")


def test_over_the_limit_is_over_the_limit(many: list[Payment]) -> None:
    """Never 900 itself."""
    assert min(payment.amount for payment in many if payment.label == "over_limit") > 900


def test_a_mule_collects_from_many(many: list[Payment]) -> None:
    """At least six different accounts pay into one before it passes the sum on."""
    senders: dict[str, set[str]] = {}
    for payment in many:
        senders.setdefault(payment.target, set()).add(payment.source)
    collected = Counter(payment.target for payment in many if payment.label == "mule")
    assert all(len(senders[mule]) >= 6 for mule, count in collected.items() if count >= 6)
    assert max(collected.values()) >= 6


def test_amounts_have_a_heavy_tail(many: list[Payment]) -> None:
    """Of ordinary payments the largest thousandth is over twenty times the median."""
    amounts = sorted(payment.amount for payment in many if payment.label == ORDINARY)
    assert amounts[-len(amounts) // 1000] > 20 * amounts[len(amounts) // 2]


def test_nobody_pays_themselves(many: list[Payment]) -> None:
    """Source and target differ."""
    assert not [payment for payment in many if payment.source == payment.target]


def test_an_account_mostly_pays_in_its_home_currency(many: list[Payment]) -> None:
    """Only a takeover uses another."""
    homes = {each.name: each.currency for each in World(1).accounts}
    abroad = {payment.label for payment in many if payment.currency != homes[payment.source]}
    assert abroad == {"takeover"}


def test_who_is_awake_changes_with_the_hour() -> None:
    """At night other accounts pay most than by day."""

    def busiest(hour: int) -> set[str]:
        world = World(1, accounts=200)
        drawn = Counter(world.payment(hour * 3600.0 + k).source for k in range(2000))
        return {name for name, _ in drawn.most_common(20)}

    assert busiest(2) != busiest(14)


def test_every_payment_is_a_transaction_and_carries_no_label(many: list[Payment]) -> None:
    """The gateway's own check takes it, and the label is nowhere in it."""
    for number, payment in enumerate(many[::300]):
        value = encode(Transaction(f"run-{number}", *payment[:4]))
        accept(value)
        assert b"label" not in value
        assert payment.label.encode() not in value
