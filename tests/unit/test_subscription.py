"""A client's queue: bounded, in order, and woken when it should be."""

import asyncio

from api.streams.subscription import MAX_SEND_BYTES, Cause, Subscription


async def test_what_is_queued_is_taken_in_order_and_joined() -> None:
    """One send for many small chunks."""
    member = Subscription(1_000)
    for chunk in (b"a", b"b", b"c"):
        member.offer(chunk)
    assert await member.take() == b"abc"


async def test_a_send_is_not_joined_without_bound() -> None:
    """A client that is behind gets pieces; what is in one send is held by its connection."""
    member = Subscription(MAX_SEND_BYTES * 4)
    half = b"x" * (MAX_SEND_BYTES // 2)
    for _ in range(5):
        member.offer(half)
    assert [len(await member.take()) for _ in range(3)] == [
        MAX_SEND_BYTES,
        MAX_SEND_BYTES,
        MAX_SEND_BYTES // 2,
    ]


async def test_a_client_past_its_bound_is_let_go() -> None:
    """The queue takes one chunk past the bound, never more, and is dropped then."""
    member = Subscription(10)
    member.offer(b"x" * 11)
    assert member.cause is None
    member.offer(b"y")
    assert member.cause is Cause.SLOW
    assert await member.take() == b""


async def test_taking_frees_the_bound() -> None:
    """A client that keeps up stays."""
    member = Subscription(10)
    for _ in range(5):
        member.offer(b"x" * 11)
        await member.take()
    assert member.cause is None


async def test_who_waits_is_woken() -> None:
    """By a chunk, or by the end."""
    member = Subscription(10)
    taking = asyncio.create_task(member.take())
    await asyncio.sleep(0)
    member.offer(b"a")
    assert await taking == b"a"
    taking = asyncio.create_task(member.take())
    await asyncio.sleep(0)
    member.close(Cause.LIFE)
    assert await taking == b""


async def test_the_first_cause_stays() -> None:
    """A stream that ended for one reason is not counted for another."""
    member = Subscription(10)
    member.close(Cause.DRAIN)
    member.cut(Cause.SLOW)
    member.offer(b"late")
    assert member.cause is Cause.DRAIN
    assert await member.take() == b""


async def test_room_is_there_when_all_was_taken() -> None:
    """A client that catches up gets its next page when it has taken the last."""
    member = Subscription(1_000)
    await member.room()
    member.offer(b"a")
    waiting = asyncio.create_task(member.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await member.take()
    await waiting
