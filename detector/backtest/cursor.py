"""A cursor: reads one partition of a topic from one time to another, in order, and then no more."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from detector.backtest.settings import BacktestSettings
from detector.errors import BacktestError
from wire import kafka
from wire.deadline import deadline

BATCH: Final = 2_000
"""Most records in one go."""
POLL_MS: Final = 200

Records = list[ConsumerRecord[bytes, bytes]]


async def ends(
    settings: BacktestSettings, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Give the offset at which each partition ends now, as a reader of committed records sees."""
    limit_s = settings.backtest_deadline_seconds
    consumer = await kafka.start(lambda: kafka.consumer(settings), patience=limit_s)
    try:
        async with deadline(limit_s, "the log's end"):
            offsets: dict[TopicPartition, int] = await consumer.end_offsets(list(partitions))
    finally:
        await kafka.close(consumer)
    return offsets


class Cursor:
    """Reads with a consumer of its own, outside any group; committed records only."""

    def __init__(self, settings: BacktestSettings, partition: TopicPartition) -> None:
        self.partition = partition
        self.start = 0
        self.position = 0
        """The offset that is read next."""
        self.end = 0
        """The offset at which reading ends."""
        self._limit_s = settings.backtest_deadline_seconds
        self._settings = settings
        self._consumer: AIOKafkaConsumer = None

    async def __aenter__(self) -> Self:
        self._consumer = await kafka.start(
            lambda: kafka.consumer(self._settings), patience=self._limit_s
        )
        self._consumer.assign([self.partition])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await kafka.close(self._consumer)

    async def span(self, since_ms: int | None, until_ms: int | None, end: int) -> None:
        """Read from the first record stamped `since_ms` or later, up to the first of `until_ms`.

        None: from the log's beginning; up to the offset `end`, which is the limit in any case.
        """
        async with deadline(self._limit_s, "the log's beginning"):
            begin = await self._consumer.beginning_offsets([self.partition])
        self.start, self.end = begin[self.partition], end
        if until_ms is not None:
            self.end = await self._offset_at(until_ms)
        if since_ms is not None:
            self.start = await self._offset_at(since_ms)
        self.position = self.start
        self._consumer.seek(self.partition, self.start)

    async def _offset_at(self, time_ms: int) -> int:
        async with deadline(self._limit_s, "offset by time"):
            found = await self._consumer.offsets_for_times({self.partition: max(0, time_ms)})
        at = found[self.partition]
        return self.end if at is None else min(at.offset, self.end)

    @property
    def done(self) -> bool:
        """True when all is read."""
        return self.position >= self.end

    async def read(self) -> Records:
        """Give the next records; none only at the end.

        Raises:
            BacktestError: Kafka does not go on.
        """
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + self._limit_s
        while not self.done:
            polled: dict[Any, Records] = await self._consumer.getmany(
                timeout_ms=POLL_MS, max_records=BATCH
            )
            # Beyond the last record: control records take offsets too.
            self.position = await self._consumer.position(self.partition)
            records = polled.get(self.partition, [])
            if records and records[-1].offset >= self.end:
                records = [record for record in records if record.offset < self.end]
            if records:
                return records
            if loop.time() > patient_until:
                raise BacktestError(
                    f"{self.partition.topic} partition {self.partition.partition}: no records"
                    f" beyond offset {self.position} within {self._limit_s:g} s"
                )
        return []
