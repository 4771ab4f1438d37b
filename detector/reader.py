"""The reader of one partition: its records, and where a replay of its state has to begin."""

import asyncio
from typing import Any

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from detector.deadline import deadline
from detector.errors import StuckError
from detector.settings import DetectorSettings
from wire import kafka

log = structlog.get_logger(__name__)
LOOK_BACK = 1
"""Records before the committed offset among which the newest timestamp is looked for at first."""

Records = list[ConsumerRecord[bytes, bytes]]


class Reader:
    """A consumer of one partition, outside the group: it reads from where it is told to.

    A consumer for each partition, because aiokafka has one fetch in flight per broker and
    consumer: sharing one, a partition just drained would wait for the long poll of the others.
    """

    def __init__(self, settings: DetectorSettings, partition: TopicPartition) -> None:
        self.partition = partition
        self._limit_s = settings.detector_deadline_seconds
        self._poll_ms = settings.detector_poll_ms
        self._consumer = kafka.consumer(
            settings,
            fetch_max_wait_ms=settings.detector_poll_ms,
            max_partition_fetch_bytes=settings.detector_fetch_bytes,
        )
        self._answered: int | None = None
        self._alive_at = 0.0

    async def start(self) -> None:
        """Connect."""
        async with deadline(self._limit_s, "start of a reader"):
            await self._consumer.start()
        self._consumer.assign([self.partition])

    async def stop(self) -> None:
        """Disconnect."""
        await kafka.close(self._consumer)

    def seek(self, offset: int) -> None:
        """Read on from this offset."""
        self._consumer.seek(self.partition, offset)
        self._alive_at = asyncio.get_running_loop().time()

    async def read(self, most: int) -> Records:
        """Give the next records, none if none came within the poll time.

        Raises:
            StuckError: the broker has not answered a fetch for as long as the deadline.
        """
        polled: dict[Any, Records] = await self._consumer.getmany(
            timeout_ms=self._poll_ms, max_records=most
        )
        now = asyncio.get_running_loop().time()
        answered = self._consumer.last_poll_timestamp(self.partition)
        if polled or answered != self._answered:
            self._answered, self._alive_at = answered, now
        elif now - self._alive_at > self._limit_s:
            raise StuckError(f"no answer to a fetch for {self._limit_s:g} s")
        return polled.get(self.partition, [])

    async def position(self) -> int:
        """Give the offset that is read next."""
        async with deadline(self._limit_s, "position"):
            offset: int = await self._consumer.position(self.partition)
        return offset

    def lag(self, offset: int) -> int:
        """Give how many records the log's end, as last seen, is ahead of an offset."""
        return max(0, (self._consumer.highwater(self.partition) or offset) - offset)

    async def resume_at(self, committed: int | None) -> int:
        """Give the offset to go on from: the committed one, if the log still has it.

        With none committed, or with what followed it deleted by retention, it is the log's start.
        """
        start, end = await self._bounds()
        if committed is None or start <= committed <= end:
            return start if committed is None else committed
        resumed = min(max(committed, start), end)
        log.error(
            "committed offset is not in the log",
            topic=self.partition.topic,
            partition=self.partition.partition,
            committed=committed,
            log_start=start,
            log_end=end,
            resumed_at=resumed,
        )
        return resumed

    async def replay_from(self, offset: int, horizon_ms: int) -> int:
        """Give the offset from which records can still matter for a decision at `offset`."""
        start, _ = await self._bounds()
        newest = await self._timestamp_near(offset, start)
        if newest is None:
            return offset
        async with deadline(self._limit_s, "offset by time"):
            found = await self._consumer.offsets_for_times(
                {self.partition: max(0, newest - horizon_ms)}
            )
        at = found[self.partition]
        first: int = offset if at is None else at.offset
        return min(offset, first)

    async def _bounds(self) -> tuple[int, int]:
        async with deadline(self._limit_s, "bounds of the log"):
            start = await self._consumer.beginning_offsets([self.partition])
            end = await self._consumer.end_offsets([self.partition])
        return start[self.partition], end[self.partition]

    async def _timestamp_near(self, offset: int, start: int) -> int | None:
        """Give the timestamp of a record just before `offset` (None: there is none).

        Offsets can be taken by control records or compacted away, so look back further each time.
        """
        back = LOOK_BACK
        while offset > start:
            begin = max(start, offset - back)
            self.seek(begin)
            while await self.position() < offset:
                records = [r for r in await self.read(back) if r.offset < offset]
                if records:
                    timestamp: int = records[-1].timestamp
                    return timestamp
            if begin == start:
                return None
            back *= 8
        return None
