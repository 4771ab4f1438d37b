"""Deadlines of requests: what waits too long is cancelled, and can tell by whom."""

import asyncio

import pytest

from loadgen.deadlines import Deadlines

SOON_S = 0.02


async def wait(deadlines: Deadlines, until: asyncio.Event) -> str:
    """Wait for an event, at most until the deadline; say how it ended."""
    waiting = deadlines.begin()
    try:
        await until.wait()
    except asyncio.CancelledError:
        if not deadlines.is_cause(waiting):
            raise
        return "too late"
    finally:
        deadlines.end(waiting)
    return "in time"


async def test_what_waits_too_long_is_cancelled_and_goes_on() -> None:
    """One after the other and several at once; its task can wait again and is not cancelled."""
    deadlines = Deadlines(SOON_S)
    for _ in range(2):
        waiting = [asyncio.create_task(wait(deadlines, asyncio.Event())) for _ in range(3)]
        assert await asyncio.gather(*waiting) == ["too late"] * 3
    assert [await wait(deadlines, asyncio.Event()) for _ in range(2)] == ["too late"] * 2
    deadlines.close()


async def test_what_ends_in_time_is_left_alone() -> None:
    """Also while another, that began before it, is late."""
    deadlines = Deadlines(SOON_S)
    late = asyncio.create_task(wait(deadlines, asyncio.Event()))
    done = asyncio.Event()
    done.set()
    assert await wait(deadlines, done) == "in time"
    assert await late == "too late"
    assert await wait(deadlines, done) == "in time"
    deadlines.close()


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    """Before the deadline, and also in the same moment."""
    deadlines = Deadlines(SOON_S)
    task = asyncio.create_task(wait(deadlines, asyncio.Event()))
    asyncio.get_running_loop().call_later(SOON_S, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()
