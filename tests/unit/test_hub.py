"""The hub, when a part of it fails: its clients come back, and it is there for them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from api.settings import ApiSettings
from api.streams import kept, sse
from api.streams.event import Event
from api.streams.filters import Filter
from api.streams.hub import Hub
from api.streams.position import FRAUD, Cursor, Position
from api.streams.subscription import Cause, Subscription
from tests.streaming import verdict

DEADLINE_S = 20


async def test_streams_go_on_after_a_failure() -> None:
    """Those that were open are cut off; who comes then gets what was read meanwhile and after."""
    hub = Hub(ApiSettings(kafka_broker_url="127.0.0.1:1"))

    def fail_once(*_: Any) -> None:
        hub.trace = None
        raise ValueError("on purpose")

    def joined() -> Subscription:
        member = Subscription(1024)
        hub.enter(member, "fraud")
        hub.channels["fraud"].join(member, None)
        return member

    await hub.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            hub.begin(FRAUD, 0, 0)
            hub.trace = fail_once
            first = joined()
            hub.read(FRAUD, events(0))
            while await first.take():
                pass
            assert first.cause is Cause.BROKEN
            second = joined()
            hub.read(FRAUD, events(1))
            assert b'"number": 1' in await second.take()
            assert hub.ring.since(Cursor(Position({FRAUD: (0,)}))) == 0
            assert not hub.draining
    finally:
        await hub.stop()


async def test_streams_that_fail_again_and_again_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told that a new process is needed; until then nobody is let in."""
    monkeypatch.setattr(kept, "AGAIN_AFTER_S", 0.0)
    monkeypatch.setattr(Hub, "_sweep", None)
    hub = Hub(ApiSettings(kafka_broker_url="127.0.0.1:1"))
    await hub.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait(hub._tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        assert (hub.failed, hub.draining) == (True, True)
    finally:
        await hub.stop()


async def test_what_a_filter_decodes_is_not_held_decoded() -> None:
    """The ring is bounded by its verdicts' bytes: decoded, they would take three times as much."""
    hub = Hub(ApiSettings(kafka_broker_url="127.0.0.1:1"))
    only = Filter(currency="EUR")
    member = Subscription(1 << 20)
    await hub.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            hub.begin(FRAUD, 0, 0)
            hub.channels["fraud"].join(member, only)
            hub.read(FRAUD, [Event(FRAUD, 0, 0, 0, verdict("t-1"))])
            assert b"t-1" in await member.take()
    finally:
        await hub.stop()
    (held,) = hub.ring.page(0, 1)
    assert not held.is_decoded
    cursor = Cursor(Position({FRAUD: (0,)}))
    assert b"t-1" in sse.encode([held], cursor, only)
    assert not held.is_decoded


def events(offset: int) -> Sequence[Event]:
    """Make what a feed has read."""
    return [Event(FRAUD, 0, offset, 0, b'{"number": %d}' % offset)]
