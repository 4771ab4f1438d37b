"""History from Kafka: bounded reads for clients that come from before the ring."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from api.settings import ApiSettings
from api.streams.event import Event
from wire import kafka

START_PATIENCE_S: Final = 5.0
SILENCE_S: Final = 10.0
"""A replay that reads nothing for this long fails, and is tried again from where it stands."""
FETCH_BYTES: Final = 256 << 10
"""Bytes per partition and fetch: what one replay may hold in memory for each partition."""


class Replays:
    """Few at a time, and together not faster than a rate, so that the live streams don't suffer."""

    def __init__(self, settings: ApiSettings) -> None:
        self.begun = 0
        """Times that history was read for a client."""
        self.records = 0
        """Records read for that."""
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.stream_replays)
        self._pace = Pace(settings.stream_replay_records_per_second)

    async def read(
        self, ranges: Mapping[TopicPartition, tuple[int, int]], indices: Mapping[str, int]
    ) -> AsyncGenerator[tuple[list[Event], Mapping[TopicPartition, int]], None]:
        """Read ranges of offsets [from, to), oldest first within each partition.

        Args:
            ranges: what to read; no range may begin before its partition's log does.
            indices: topic index by topic name.

        Yields:
            Pages: events, and the partitions' next offsets behind them. A page may go a little
            past a range's end.

        Raises:
            KafkaError, OSError, TimeoutError: the brokers did not answer.
        """
        async with self._slots:
            self.begun += 1
            consumer = await kafka.start(self._consumer, patience=START_PATIENCE_S)
            try:
                async for page in self._pages(consumer, ranges, indices):
                    yield page
            finally:
                await kafka.close(consumer)

    async def _pages(
        self,
        consumer: AIOKafkaConsumer,
        ranges: Mapping[TopicPartition, tuple[int, int]],
        indices: Mapping[str, int],
    ) -> AsyncGenerator[tuple[list[Event], Mapping[TopicPartition, int]], None]:
        consumer.assign(list(ranges))
        for tp, (start, _) in ranges.items():
            consumer.seek(tp, start)
        left = set(ranges)
        loop = asyncio.get_running_loop()
        moved_at = loop.time()
        where = {tp: start for tp, (start, _) in ranges.items()}
        while left:
            fetched = await consumer.getmany(
                *left, timeout_ms=1000, max_records=self._settings.stream_page_records
            )
            events = [
                Event(indices[tp.topic], tp.partition, r.offset, r.timestamp, r.value)
                for tp, records in fetched.items()
                for r in records
                if r.value is not None
            ]
            before = dict(where)
            where = {tp: await consumer.position(tp) for tp in ranges}
            if where != before:
                moved_at = loop.time()
            elif loop.time() - moved_at > SILENCE_S:
                raise TimeoutError("the history can't be read")
            done = {tp for tp in left if where[tp] >= ranges[tp][1]}
            consumer.pause(*done)
            left -= done
            self.records += len(events)
            await self._pace.take(len(events))
            yield events, where

    def _consumer(self) -> AIOKafkaConsumer:
        return kafka.consumer(self._settings, max_partition_fetch_bytes=FETCH_BYTES)


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
