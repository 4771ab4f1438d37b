"""History from Kafka: bounded reads for clients that come from before the ring."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import chain
from typing import Final

from aiokafka import TopicPartition

from api.settings import ApiSettings
from api.streams.event import Event
from wire.source import Limits, Source, opened

START_PATIENCE_S: Final = 5.0
SILENCE_S: Final = 10.0
"""A replay that reads nothing for this long fails, and is tried again from where it stands."""
LIMITS: Final = Limits(
    wait_ms=500, partition_bytes=256 << 10, total_bytes=1 << 20, deadline_s=SILENCE_S
)
"""Of a fetch: a replay may hold two of them in memory for each broker."""


class Replays:
    """Few at a time, and together not faster than a rate, so that the live streams don't suffer."""

    def __init__(self, settings: ApiSettings) -> None:
        self.begun = 0
        """Turns in which history was read for a client."""
        self.records = 0
        """Records read for that."""
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.stream_replays)
        self._waiting = 0
        """Clients that wait for a slot."""
        self._turn = settings.stream_ring_events
        """Records after which one makes room: who was away a little longer than the ring reaches
        has all of its history in one go, and waits for none that wants a week's."""
        self._pace = Pace(settings.stream_replay_records_per_second)

    async def read(
        self, ranges: Mapping[TopicPartition, tuple[int, int]], indices: Mapping[str, int]
    ) -> AsyncGenerator[tuple[list[Event], Mapping[TopicPartition, int]], None]:
        """Read ranges of offsets [from, to), oldest first within each partition.

        It may end early, for others that wait: the next call comes behind them.

        Args:
            ranges: what to read; no range may begin before its partition's log does.
            indices: topic index by topic name.

        Yields:
            Pages: events, and the partitions' next offsets behind them. A page may go a little
            past a range's end.

        Raises:
            KafkaError, StuckError, OSError: the brokers did not answer.
        """
        taken = 0
        async with (
            self._slot(),
            opened(self._settings, indices, LIMITS, patience=START_PATIENCE_S) as (_, source),
            aclosing(self._pages(source, ranges, indices)) as pages,
        ):
            self.begun += 1
            async for events, where in pages:
                yield events, where
                taken += len(events)
                if self._waiting and taken >= self._turn:
                    return

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _pages(
        self,
        source: Source,
        ranges: Mapping[TopicPartition, tuple[int, int]],
        indices: Mapping[str, int],
    ) -> AsyncGenerator[tuple[list[Event], Mapping[TopicPartition, int]], None]:
        for place, (start, _) in ranges.items():
            source.seek(place, start)
        where = {place: start for place, (start, _) in ranges.items()}
        left = set(ranges)
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        most = self._settings.stream_page_records
        while left:
            chunks = await source.read()
            if chunks:
                moved_at = loop.time()
            elif loop.time() - moved_at > SILENCE_S:
                raise TimeoutError("the history can't be read")
            for chunk in chain.from_iterable(each.cut(most) for each in chunks):
                place = chunk.place
                events = [
                    Event(indices[place.topic], place.partition, r.offset, r.timestamp, r.value)
                    for r in chunk.records
                    if r.value is not None
                ]
                where[place] = chunk.next_offset
                self.records += len(events)
                await self._pace.take(len(events))
                yield events, where
            for place in [place for place in left if where[place] >= ranges[place][1]]:
                source.leave(place)
                left.discard(place)


class Pace:
    """A rate that all together keep to."""

    def __init__(self, per_second: int) -> None:
        self._cost = 1 / per_second
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Wait for the turn of `count` records."""
        now = asyncio.get_running_loop().time()
        due = max(now, self._free_at)
        self._free_at = due + count * self._cost
        await asyncio.sleep(due - now)
