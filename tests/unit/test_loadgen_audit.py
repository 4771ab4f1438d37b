"""Auditing the log: one outcome for each record, in whatever order they are read."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.verify.audit import Audit
from wire.messages import Transaction, Verdict

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
LATER = datetime(2026, 1, 3, tzinfo=UTC)


def transaction(name: str, amount: str = "10") -> Transaction:
    """A transaction of the log."""
    return Transaction(name, "a", "b", Decimal(amount))


def verdict(name: str, amount: str = "10", *, fraud: bool = False, after_s: float = 0) -> Verdict:
    """A verdict on it, written so long after the others."""
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
        received_at=NOW + timedelta(seconds=after_s),
        decided_at=NOW,
    )


class Looked(Audit):
    """An audit that expects the tutorial's rules."""

    def __init__(self, window: int = 1000) -> None:
        super().__init__(window=window, duplicates_ms=600_000, expect=Decimal(900))

    def enter(
        self, name: str, amount: str = "10", *, after_s: float = 0, partition: int = 0
    ) -> None:
        """Enter a transaction written so long after the others."""
        at_ms = NOW_MS + round(after_s * 1000)
        self.transaction(transaction(name, amount), partition, at_ms)


@given(st.integers(0, 1000))
def test_the_order_of_reading_does_not_matter(seed: int) -> None:
    """Transactions and verdicts, poison and dead letters, shuffled: nothing is wrong."""
    looked = Looked()
    steps = [lambda k=k: looked.enter(f"t{k}") for k in range(9)]
    steps += [lambda k=k: looked.verdict(verdict(f"t{k}")) for k in range(9)]
    steps += [lambda: looked.poison("topic", 0, 5, 0), lambda: looked.dead_letter("topic", 0, 5)]
    random.Random(seed).shuffle(steps)
    for step in steps:
        step()
    looked.close(until=LATER)
    assert looked.findings.ok
    assert (looked.findings.verdicts, looked.findings.dead_letters) == (9, 1)


def test_each_fault_is_named() -> None:
    """Lost, doubled, misclassified, on nothing at all: one of each."""
    looked = Looked()
    for name in ("lost", "twice", "wrong"):
        looked.enter(name)
    looked.poison("topic", 1, 2, NOW_MS)
    for found in (verdict("twice"), verdict("twice"), verdict("wrong", fraud=True)):
        looked.verdict(found)
    looked.verdict(verdict("nobody's"))
    looked.close(until=LATER)
    found = looked.findings
    assert (found.lost, found.duplicate, found.misclassified, found.unknown) == (2, 1, 1, 1)
    assert not found.ok


def test_a_client_s_retry_is_owed_no_second_verdict() -> None:
    """The same id from the same source counts as a repeat."""
    looked = Looked()
    for _ in range(2):
        looked.enter("t")
    looked.verdict(verdict("t"))
    looked.close(until=LATER)
    assert (looked.findings.repeats, looked.findings.transactions) == (1, 1)
    assert looked.findings.ok


REPEATED = (0.0, 599.9, 1199.0, 1799.1)
"""Seconds. All but the last come within ten minutes of the one before, which is what counts."""


@given(st.permutations([True] * 4 + [False] * 2))
def test_an_id_that_comes_again_after_the_duplicates_window_is_owed_another(
    order: list[bool],
) -> None:
    """However log and verdicts are read beside each other, each in its order."""
    looked = Looked()
    log = [lambda at=at: looked.enter("t", after_s=at) for at in REPEATED]
    verdicts = [lambda at=at: looked.verdict(verdict("t", after_s=at)) for at in (0.0, 1799.1)]
    for is_log in order:
        (log if is_log else verdicts).pop(0)()
    looked.close(until=LATER)
    found = looked.findings
    assert (found.transactions, found.repeats, found.verdicts) == (2, 2, 2)
    assert found.ok


@given(st.permutations([True] * 3 + [False] * 3))
def test_an_id_that_comes_again_behind_a_stamp_of_the_future_is_owed_another(
    order: list[bool],
) -> None:
    """The partition's time is far ahead of the id's own records, which lie near each other."""
    looked = Looked()
    records = (("t", 0.0), ("ahead", 86_400.0), ("t", 1.0))
    log = [lambda each=each: looked.enter(each[0], after_s=each[1]) for each in records]
    verdicts = [
        lambda each=each: looked.verdict(verdict(each[0], after_s=each[1])) for each in records
    ]
    for is_log in order:
        (log if is_log else verdicts).pop(0)()
    looked.close(until=LATER + timedelta(days=1))
    found = looked.findings
    assert (found.transactions, found.verdicts, found.duplicate, found.lost) == (3, 3, 0, 0)


@given(st.permutations([True, True, False, False]))
def test_a_verdict_on_a_repeat_is_a_second_one(order: list[bool]) -> None:
    """Whichever is read first: the repeat, or a verdict on it."""
    looked = Looked()
    log = [lambda at=at: looked.enter("t", after_s=at) for at in (0.0, 250.0)]
    verdicts = [lambda at=at: looked.verdict(verdict("t", after_s=at)) for at in (0.0, 250.0)]
    for is_log in order:
        (log if is_log else verdicts).pop(0)()
    looked.close(until=LATER)
    found = looked.findings
    assert (found.verdicts, found.duplicate, found.lost, found.unknown) == (1, 1, 0, 0)


def test_a_partition_s_time_never_goes_back() -> None:
    """A clock that is behind makes no repeat a transaction: the detector goes by the latest."""
    looked = Looked()
    looked.enter("ahead", after_s=700)
    looked.enter("t", after_s=0)
    looked.enter("t", after_s=1200)
    looked.enter("elsewhere", after_s=0, partition=1)
    looked.enter("elsewhere", after_s=600, partition=1)
    assert (looked.findings.transactions, looked.findings.repeats) == (4, 1)


def test_what_repeats_one_from_before_the_span_is_owed_nothing() -> None:
    """The audit begins at a time; a client's retries do not."""
    looked = Looked()
    looked.before(transaction("t"), 0, NOW_MS)
    looked.enter("t", after_s=1)
    looked.close(until=LATER)
    assert (looked.findings.transactions, looked.findings.repeats) == (0, 1)
    assert looked.findings.ok


def test_verdicts_on_what_came_after_the_span_are_no_matter() -> None:
    """The log goes on while one looks."""
    looked = Looked()
    looked.verdict(verdict("next"))
    looked.close(until=NOW)
    assert looked.findings.ok


def test_memory_is_bounded() -> None:
    """What leaves the window without an outcome is lost at that moment."""
    looked = Looked(window=10)
    for k in range(1000):
        looked.enter(f"t{k}")
    assert (looked.pending, looked.findings.lost) == (10, 990)


def test_ids_that_memory_has_no_room_for_are_counted() -> None:
    """Those within the duplicates' window: repeats of the others are none."""
    looked = Looked(window=10)
    for k in range(20):
        looked.enter(f"t{k}", after_s=60 * k)
        looked.verdict(verdict(f"t{k}", after_s=60 * k))
    assert looked.findings.forgotten == 0
    for k in range(20, 30):
        looked.enter(f"t{k}", after_s=60 * 20)
        looked.verdict(verdict(f"t{k}", after_s=60 * 20))
    assert looked.findings.forgotten == 9


@pytest.mark.parametrize("at_ms", [-1, NOW_MS, 1 << 60])
def test_poison_is_no_id_that_memory_had_no_room_for(at_ms: int) -> None:
    """Nothing repeats it; what it puts out is judged by the time of the log, not by its stamp."""
    looked = Looked(window=2)
    looked.enter("long ago")
    looked.enter("now", after_s=3600)
    counted = []
    for offset in range(4):
        looked.poison("topic", 0, offset, at_ms)
        looked.dead_letter("topic", 0, offset)
        counted.append(looked.findings.forgotten)

    assert counted == [0, 1, 1, 1]
