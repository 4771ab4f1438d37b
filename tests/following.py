"""Who follows a verdict topic in tests: a feed, with what it hands over, and who writes for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import Producer

from api.settings import ApiSettings
from api.streams.event import Event
from api.streams.feed import Feed
from api.streams.position import FRAUD
from wire.settings import TopicSettings

DEADLINE_S = 40.0


class Pages:
    """Takes in what a feed reads, as the hub does; holds it against the feed's positions."""

    def __init__(self, settings: TopicSettings, **given: Any) -> None:
        self.feed = Feed(
            ApiSettings(**settings.model_dump(), **given), FRAUD, settings.fraud_topic, self
        )
        self.begun: dict[int, int] = {}
        self.gone: list[tuple[int, int, int]] = []
        """Partition, expected offset and where it went on."""
        self.sizes: list[int] = []
        self.values: dict[int, list[bytes]] = {}
        """By partition, in the order in which they came."""
        self.offsets: dict[int, list[int]] = {}
        self._came = asyncio.Event()

    def begin(self, topic: int, partition: int, offset: int) -> None:
        """Note where a partition begins."""
        assert topic == FRAUD
        self.begun[partition] = offset

    def read(self, topic: int, events: Sequence[Event]) -> None:
        """Note what came; the positions are past the last event, and past no other."""
        assert topic == FRAUD
        self.sizes.append(len(events))
        for event in events:
            self.offsets.setdefault(event.partition, []).append(event.offset)
            self.values.setdefault(event.partition, []).append(event.value)
            assert event.offset < self.feed.next[event.partition]
        self._came.set()

    def lost(self, topic: int, partition: int, expected: int, offset: int) -> None:
        """Note a gap."""
        assert topic == FRAUD
        self.gone.append((partition, expected, offset))

    async def until(self, is_there: Callable[[], bool]) -> None:
        """Wait for it, looking whenever something came."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_there():
                self._came.clear()
                await self._came.wait()

    async def until_count(self, *counts: int) -> None:
        """Wait until so many have come, by partition."""
        await self.until(
            lambda: all(len(self.values.get(p, ())) >= count for p, count in enumerate(counts))
        )

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Run the feed; one that ran before goes on where it was."""
        running = asyncio.create_task(self.feed.run())
        try:
            await self.until(lambda: self.feed.following)
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])


def write(
    settings: TopicSettings, values: Iterable[bytes], partition: int = 0, **given: Any
) -> None:
    """Write with a client of another make."""
    to = settings.kafka_broker_url
    producer = Producer(  # idempotent: else a batch sent again may come behind the next
        {"bootstrap.servers": to, "enable.idempotence": True, "log_level": 0, **given}
    )
    failed: list[Any] = []

    def landed(error: Any, _message: Any) -> None:
        if error is not None:
            failed.append(error)

    for value in values:
        producer.produce(settings.fraud_topic, value, partition=partition, on_delivery=landed)
    assert producer.flush(DEADLINE_S) == 0
    assert failed == []


def numbered(first: int, end: int) -> list[bytes]:
    """Make values that tell their order."""
    return [b"%d" % number for number in range(first, end)]
