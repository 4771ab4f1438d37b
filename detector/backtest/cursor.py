"""A cursor: reads one partition of a topic from one time to another, in order, and then no more."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from aiokafka import TopicPartition

from detector.backtest.settings import BacktestSettings
from detector.errors import BacktestError
from wire import offsets
from wire.deadline import deadline
from wire.kafka import RawClient
from wire.records import Record
from wire.source import Limits, Source

WAIT_MS: Final = 200
FETCH_BYTES: Final = 1 << 20
"""Most bytes of a fetch; a cursor holds twice that: what is read, and what comes next."""


async def ends(
    client: RawClient, settings: BacktestSettings, partitions: Iterable[TopicPartition]
) -> offsets.Offsets:
    """Give the offset at which each partition ends now, as a reader of committed records sees."""
    async with deadline(settings.backtest_deadline_seconds, "the log's end"):
        return await offsets.since(client, partitions, offsets.END)


class Cursor:
    """Reads by fetches of its own, outside any group; committed records only."""

    def __init__(
        self, client: RawClient, settings: BacktestSettings, partition: TopicPartition
    ) -> None:
        self.partition = partition
        self.start = 0
        self.position = 0
        """The offset that is read next."""
        self.end = 0
        """The offset at which reading ends."""
        self._client = client
        self._limit_s = settings.backtest_deadline_seconds
        limits = Limits(WAIT_MS, FETCH_BYTES, FETCH_BYTES, WAIT_MS / 1000 + self._limit_s)
        self._source = Source(client, limits)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._source.stop()

    async def span(self, since_ms: int | None, until_ms: int | None, end: int) -> None:
        """Read from the first record stamped `since_ms` or later, up to the first of `until_ms`.

        None: from the log's beginning; up to the offset `end`, which is the limit in any case.
        """
        self.end = end
        self.start = await self._offset_at(offsets.FIRST)
        if until_ms is not None:
            self.end = await self._offset_at(max(0, until_ms))
        if since_ms is not None:
            self.start = await self._offset_at(max(0, since_ms))
        self.position = self.start
        self._source.seek(self.partition, self.start)

    async def _offset_at(self, time_ms: int) -> int:
        async with deadline(self._limit_s, "offset by time"):
            found = await offsets.since(self._client, [self.partition], time_ms)
        at = found[self.partition]
        return self.end if at == offsets.NONE else min(at, self.end)

    def go_on(self, end: int) -> None:
        """Read up to another end, behind the one so far."""
        # What came with the last records and lay behind that end was left aside.
        self.position = min(self.position, self.end)
        self.end = max(self.end, end)
        self._source.seek(self.partition, self.position)

    @property
    def done(self) -> bool:
        """True when all is read."""
        return self.position >= self.end

    async def read(self) -> list[Record]:
        """Give the next records; none only at the end.

        Raises:
            BacktestError: Kafka does not go on.
            StuckError: a broker does not answer, or what is to be read is not there any more.
        """
        loop = asyncio.get_running_loop()
        patient_until = loop.time() + self._limit_s
        while not self.done:
            for chunk in await self._source.read():
                self.position = chunk.next_offset
                records = chunk.records
                if records and records[-1].offset >= self.end:
                    records = [record for record in records if record.offset < self.end]
                if records:
                    await asyncio.sleep(0)  # the next fetch is sent before these are judged
                    return records
            if loop.time() > patient_until:
                raise BacktestError(
                    f"{self.partition.topic} partition {self.partition.partition}: no records"
                    f" beyond offset {self.position} within {self._limit_s:g} s"
                )
        return []
