"""The index of recent verdicts: bounded, and every waiter is told."""

import asyncio

import pytest

from api.ingest.verdicts import PENDING, Verdicts
from api.streams.event import Event


def event(transaction_id: str, source: str = "a") -> Event:
    """Give a verdict as the hub hands it on."""
    value = b'{"transaction_id":"%b","source":"%b"}' % (transaction_id.encode(), source.encode())
    return Event(0, 0, 0, 0, value)


def test_the_index_is_bounded() -> None:
    """The last `size` are known; never more than twice as many are held."""
    verdicts = Verdicts(100, 1)
    for number in range(1000):
        verdicts.saw([event(str(number))])

    known = {number for number in range(1000) if verdicts.find(str(number)) is not None}
    assert set(range(900, 1000)) <= known
    assert len(known) <= 200


def test_a_verdict_is_not_overwritten_by_its_acceptance() -> None:
    """The verdict may be read before Kafka's acknowledgement of the transaction."""
    verdicts = Verdicts(100, 1)
    verdicts.saw([event("t1")])
    verdicts.accepted("t1")
    verdicts.accepted("t2")

    assert (verdicts.find("t1"), verdicts.find("t2")) == (event("t1").value, PENDING)


def test_what_is_no_verdict_is_passed_over() -> None:
    """Another program's record in the topic stops nothing."""
    verdicts = Verdicts(100, 1)
    verdicts.saw([Event(0, 0, 0, 0, b"\xff"), Event(0, 0, 0, 0, b"[]"), event("t1")])

    assert verdicts.find("t1") == event("t1").value


@pytest.mark.parametrize(("source", "expected"), [("a", True), ("b", False)])
async def test_a_waiter_hears_of_its_own_account_only(source: str, expected: bool) -> None:
    """Two accounts may use one id."""
    verdicts = Verdicts(100, 1)
    with verdicts.expecting("a", "t1") as expectation:
        verdicts.saw([event("t1", source)])
        assert expectation is not None
        assert (await expectation.within(0) is not None) == expected
    assert verdicts.waiters == 0


async def test_waiters_are_released() -> None:
    """At a shutdown nobody waits on."""
    verdicts = Verdicts(100, 1)
    with verdicts.expecting("a", "t1") as expectation:
        assert expectation is not None
        waiting = asyncio.create_task(expectation.within(60))
        await asyncio.sleep(0)
        verdicts.release()
        assert await waiting is None
