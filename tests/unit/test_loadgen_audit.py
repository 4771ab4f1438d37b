"""Auditing the log: one outcome for each record, in whatever order they are read."""

import random
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from loadgen.audit import Audit
from wire.messages import Transaction, Verdict

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LATER = datetime(2026, 1, 3, tzinfo=UTC)


def transaction(name: str, amount: str = "10") -> Transaction:
    """A transaction of the log."""
    return Transaction(name, "a", "b", Decimal(amount))


def verdict(name: str, amount: str = "10", *, fraud: bool = False) -> Verdict:
    """A verdict on it."""
    return Verdict(
        transaction_id=name,
        source="a",
        target="b",
        amount=Decimal(amount),
        currency="EUR",
        decision="fraud" if fraud else "legit",
        score=0,
        reasons=(),
        rules_version="1",
        received_at=NOW,
        decided_at=NOW,
    )


def audit(window: int = 1000) -> Audit:
    """An audit that expects the tutorial's rule."""
    return Audit(window=window, expect=Decimal(900))


@given(st.integers(0, 1000))
def test_the_order_of_reading_does_not_matter(seed: int) -> None:
    """Transactions and verdicts, poison and dead letters, shuffled: nothing is wrong."""
    looked = audit()
    steps = [lambda k=k: looked.transaction(transaction(f"t{k}")) for k in range(9)]
    steps += [lambda k=k: looked.verdict(verdict(f"t{k}")) for k in range(9)]
    steps += [lambda: looked.poison("topic", 0, 5), lambda: looked.dead_letter("topic", 0, 5)]
    random.Random(seed).shuffle(steps)
    for step in steps:
        step()
    looked.close(until=LATER)
    assert looked.findings.ok
    assert (looked.findings.verdicts, looked.findings.dead_letters) == (9, 1)


def test_each_fault_is_named() -> None:
    """Lost, doubled, misclassified, on nothing at all: one of each."""
    looked = audit()
    for name in ("lost", "twice", "wrong"):
        looked.transaction(transaction(name))
    looked.poison("topic", 1, 2)
    for found in (verdict("twice"), verdict("twice"), verdict("wrong", fraud=True)):
        looked.verdict(found)
    looked.verdict(verdict("nobody's"))
    looked.close(until=LATER)
    found = looked.findings
    assert (found.lost, found.duplicate, found.misclassified, found.unknown) == (2, 1, 1, 1)
    assert not found.ok


def test_a_client_s_retry_is_owed_no_second_verdict() -> None:
    """The same id from the same source counts as a repeat."""
    looked = audit()
    for _ in range(2):
        looked.transaction(transaction("t"))
    looked.verdict(verdict("t"))
    looked.close(until=LATER)
    assert (looked.findings.repeats, looked.findings.transactions) == (1, 1)
    assert looked.findings.ok


def test_verdicts_on_what_came_after_the_span_are_no_matter() -> None:
    """The log goes on while one looks."""
    looked = audit()
    looked.verdict(verdict("next"))
    looked.close(until=NOW)
    assert looked.findings.ok


def test_memory_is_bounded() -> None:
    """What leaves the window without an outcome is lost at that moment."""
    looked = audit(window=10)
    for k in range(1000):
        looked.transaction(transaction(f"t{k}"))
    assert (looked.pending, looked.findings.lost) == (10, 990)
