"""A client's way to the live stream, as far as it needs no Kafka: through the ring."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.settings import ApiSettings
from api.streams.catchup import ID_BYTES_AT_A_TIME, Catchup, Wish
from api.streams.event import Event
from api.streams.hub import Hub
from api.streams.position import FRAUD, MAX_OFFSET, MAX_PARTITIONS, Position
from api.streams.subscription import Subscription

DEADLINE_S = 20
VALUE = b'{"transaction_id": "t-1"}'


@asynccontextmanager
async def read_up_to(offset: int) -> AsyncIterator[Hub]:
    """Run a hub that has read one partition of one topic so far."""
    hub = Hub(ApiSettings(kafka_broker_url="127.0.0.1:1"))
    await hub.start()
    try:
        hub.begin(FRAUD, 0, 0)
        hub.feeds[FRAUD].next = [offset]
        hub.feeds[FRAUD].caught_up = True
        hub.read(FRAUD, [Event(FRAUD, 0, n, 0, VALUE) for n in range(offset)])
        async with asyncio.timeout(DEADLINE_S):
            await hub.ready([FRAUD])
            yield hub
    finally:
        await hub.stop()


@asynccontextmanager
async def resuming(hub: Hub, *vector: int) -> AsyncIterator[Subscription]:
    """Have a client come back to a position."""
    member = Subscription(hub.settings.stream_queue_bytes)
    wish = Wish("fraud", position=Position({FRAUD: vector}))
    running = asyncio.create_task(Catchup(hub, hub.replays, wish, member).run())
    try:
        yield member
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_what_a_client_misses_while_it_takes_its_time_is_not_passed_over() -> None:
    """It does not join the live stream beyond records that went meanwhile: it is told of them."""
    async with read_up_to(5) as hub, resuming(hub, 5) as member:
        await asyncio.sleep(0)
        assert (await member.take()).startswith(b"id: ")  # it stands at the end, and waits
        hub.feeds[FRAUD].next = [9]
        hub.lost(FRAUD, 0, 5, 9)
        for _ in range(10):
            await asyncio.sleep(0)
        assert hub.channels["fraud"].listeners == 0


async def test_a_position_of_many_partitions_is_served_in_small_pieces() -> None:
    """Each event has an id of many kilobytes then, and others wait while they are made."""
    position = (0, *[MAX_OFFSET] * (MAX_PARTITIONS - 1))
    async with read_up_to(500) as hub, resuming(hub, *position) as member:
        seen = 0
        while seen < 500:
            chunk = await member.take()
            assert len(chunk) <= 2 * ID_BYTES_AT_A_TIME
            seen += chunk.count(VALUE)
    assert seen == 500
