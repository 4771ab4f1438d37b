"""The index of recent verdicts: bounded, and every waiter is told."""

import asyncio

import pytest

from api.ingest.verdicts import ENTRY_BYTES, PENDING, Verdicts
from api.streams.event import Event

BYTES = 1 << 20


def event(transaction_id: str, source: str = "a") -> Event:
    """Give a verdict as the hub hands it on."""
    value = b'{"transaction_id":"%b","source":"%b"}' % (transaction_id.encode(), source.encode())
    return Event(0, 0, 0, 0, value)


def test_the_index_is_bounded() -> None:
    """The last `size` are known; never more than twice as many are held."""
    verdicts = Verdicts(100, BYTES, 1)
    for number in range(1000):
        verdicts.saw([event(str(number))])

    known = {number for number in range(1000) if verdicts.find(str(number)) is not None}
    assert set(range(900, 1000)) <= known
    assert len(known) <= 200


@pytest.mark.parametrize("large", [True, False])
def test_the_index_is_bounded_in_bytes(large: bool) -> None:
    """However large verdicts are, and however many are pending, no more is held than was said."""
    verdicts = Verdicts(10_000, BYTES, 1)
    padding = b" " * 16_000 if large else b""
    ids = [str(number) for number in range(10_000)]
    for each in ids:
        verdicts.accepted_all([each + "-pending", each])
        verdicts.saw([Event(0, 0, 0, 0, event(each).value + padding)])

    found = [verdicts.find(each + end) for each in ids for end in ("", "-pending")]
    held = [len(verdict) + ENTRY_BYTES for verdict in found if verdict is not None]
    assert BYTES // 3 < sum(held) <= BYTES


def test_a_verdict_takes_the_place_of_what_was_pending() -> None:
    """What is known is counted once, also when its verdict has come."""
    verdicts = Verdicts(10, 20 * (ENTRY_BYTES + len(event("0").value)), 1)
    for number in range(10):
        verdicts.accepted(str(number))
        verdicts.saw([event(str(number))])
        verdicts.saw([event(str(number))])

    assert [verdicts.find(str(number)) for number in range(10)] == [
        event(str(number)).value for number in range(10)
    ]


def test_an_id_that_no_transaction_has_is_not_held() -> None:
    """Another program's record can't fill the index by its id."""
    verdicts = Verdicts(100, BYTES, 1)
    verdicts.saw([event("x" * 65), event("x" * 64)])

    assert verdicts.find("x" * 65) is None
    assert verdicts.find("x" * 64) is not None


def test_a_verdict_is_not_overwritten_by_its_acceptance() -> None:
    """The verdict may be read before Kafka's acknowledgement of the transaction."""
    verdicts = Verdicts(100, BYTES, 1)
    verdicts.saw([event("t1")])
    verdicts.accepted("t1")
    verdicts.accepted("t2")

    assert (verdicts.find("t1"), verdicts.find("t2")) == (event("t1").value, PENDING)


@pytest.mark.parametrize("unheard_of", [True, False])
@pytest.mark.parametrize("aged", [True, False])
def test_no_verdict_is_overwritten_by_the_acceptance_of_many(
    *, aged: bool, unheard_of: bool
) -> None:
    """Wherever the verdict is by then, and whether or not it is looked for there."""
    verdicts = Verdicts(10, BYTES, 1)
    verdicts.saw([event("t1")])
    if aged:
        verdicts.accepted_all([f"other-{number}" for number in range(15)])
    verdicts.accepted_all(["t1", "t2", "t2"], unheard_of=unheard_of)

    assert (verdicts.find("t1"), verdicts.find("t2")) == (event("t1").value, PENDING)


def test_more_than_the_index_holds_can_be_accepted_at_once() -> None:
    """The last ones are known then."""
    verdicts = Verdicts(10, BYTES, 1)
    verdicts.accepted_all([str(number) for number in range(1000)])

    known = {number for number in range(1000) if verdicts.find(str(number)) is not None}
    assert set(range(990, 1000)) <= known
    assert len(known) <= 20


def test_what_is_no_verdict_is_passed_over() -> None:
    """Another program's record in the topic stops nothing."""
    verdicts = Verdicts(100, BYTES, 1)
    verdicts.saw([Event(0, 0, 0, 0, b"\xff"), Event(0, 0, 0, 0, b"[]"), event("t1")])

    assert verdicts.find("t1") == event("t1").value


@pytest.mark.parametrize(("source", "expected"), [("a", True), ("b", False)])
async def test_a_waiter_hears_of_its_own_account_only(source: str, expected: bool) -> None:
    """Two accounts may use one id."""
    verdicts = Verdicts(100, BYTES, 1)
    with verdicts.expecting("a", "t1") as expectation:
        verdicts.saw([event("t1", source)])
        assert expectation is not None
        assert (await expectation.within(0) is not None) == expected
    assert verdicts.waiters == 0


async def test_waiters_are_released() -> None:
    """At a shutdown nobody waits on."""
    verdicts = Verdicts(100, BYTES, 1)
    with verdicts.expecting("a", "t1") as expectation:
        assert expectation is not None
        waiting = asyncio.create_task(expectation.within(60))
        await asyncio.sleep(0)
        verdicts.release()
        assert await waiting is None
