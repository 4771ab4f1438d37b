"""The reader of one partition: its records, and where a replay of its state has to begin."""

import asyncio
from typing import Any, Final

import structlog
from aiokafka import ConsumerRecord, TopicPartition

from detector.batch import transaction_in
from detector.deadline import deadline
from detector.errors import StuckError
from detector.settings import DetectorSettings
from wire import kafka

log = structlog.get_logger(__name__)
LOOK_BACK: Final = 64
"""Records before the committed offset among which a transaction is looked for at first."""
ASK_AGAIN_S: Final = 0.2

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
        self._consumer.resume(self.partition)
        polled: dict[Any, Records] = await self._consumer.getmany(
            timeout_ms=self._poll_ms, max_records=most
        )
        records = polled.get(self.partition, [])
        if records and self.lag(records[-1].offset + 1) == 0:
            # Nothing is fetched ahead of a reader that keeps up: it would be the few records of
            # the next moment, and all those gathered since would wait for one more round.
            self._consumer.pause(self.partition)
        now = asyncio.get_running_loop().time()
        answered = self._consumer.last_poll_timestamp(self.partition)
        if polled or answered != self._answered:
            self._answered, self._alive_at = answered, now
        elif now - self._alive_at > self._limit_s:
            raise StuckError(f"no answer to a fetch for {self._limit_s:g} s")
        return records

    async def position(self) -> int:
        """Give the offset that is read next."""
        async with deadline(self._limit_s, "position"):
            offset: int = await self._consumer.position(self.partition)
        return offset

    def lag(self, offset: int) -> int:
        """Give how many records the log's end, as last seen, is ahead of an offset."""
        return max(0, (self._consumer.highwater(self.partition) or offset) - offset)

    async def resume_at(self, committed: int | None) -> int:
        """Give the offset to go on from: the committed one; the log's start if there is none.

        Where retention has deleted what followed the committed offset, it is the log's start.

        Raises:
            StuckError: the log ends before the committed offset. It may be a broker that is still
                coming up, or records that a cluster has lost. To go on from an earlier offset
                would decide twice, so that is left to who knows what happened.
        """
        start, end = await self._bounds()
        if committed is None:
            return start
        if committed < start:
            log.error(
                "records were deleted before they were read",
                topic=self.partition.topic,
                partition=self.partition.partition,
                committed=committed,
                log_start=start,
            )
            return start
        async with deadline(self._limit_s, f"log up to the committed offset {committed}"):
            while end < committed:
                await asyncio.sleep(ASK_AGAIN_S)
                _, end = await self._bounds()
        return committed

    async def replay_from(self, offset: int, horizon_ms: int) -> int:
        """Give the offset from which records can still matter for a decision at `offset`."""
        start, _ = await self._bounds()
        newest = await self._last_transaction_ms(offset, start)
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

    async def _last_transaction_ms(self, offset: int, start: int) -> int | None:
        """Give the timestamp of the last transaction before `offset`; None if there is none.

        Of the last transaction, since those alone move the engine's time. Offsets before it may
        belong to poison records, to control records or to none: look back further each time.
        """
        back = LOOK_BACK
        found: int | None = None
        begin = offset
        while begin > start and found is None:
            begin = max(start, offset - back)
            self.seek(begin)
            while await self.position() < offset:
                for record in await self.read(back):
                    if record.offset < offset and transaction_in(record):
                        found = record.timestamp
            back *= 8
        return found
