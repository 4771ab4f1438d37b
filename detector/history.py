"""Where a partition goes on, and from where on its log can still matter."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import structlog
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from detector.batch import transaction_in
from detector.settings import DetectorSettings
from wire import offsets
from wire.deadline import deadline
from wire.source import Source

log = structlog.get_logger(__name__)
LOOK_BACK: Final = 64
"""Records before an offset among which a transaction is looked for at first."""
ASK_AGAIN_S: Final = 0.2


class Bounds(NamedTuple):
    """The first offset of a log, and the one after its last."""

    start: int
    end: int


class History:
    """Looks into the logs of some partitions."""

    def __init__(self, settings: DetectorSettings, client: AIOKafkaClient, source: Source) -> None:
        """Make it.

        Args:
            settings: its deadline.
            client: connected; asks for offsets.
            source: reads single records.
        """
        self._limit_s = settings.detector_deadline_seconds
        self._client = client
        self._source = source

    async def resume_at(
        self, committed: Mapping[TopicPartition, int | None]
    ) -> dict[TopicPartition, int]:
        """Give the offsets to go on from: the committed ones; the log's start if there is none.

        Where retention has deleted what followed the committed offset, it is the log's start.

        Raises:
            StuckError: a log ends before the committed offset. It may be a broker that is still
                coming up, or records that a cluster has lost. To go on from an earlier offset
                would decide twice, so that is left to who knows what happened.
        """
        bounds = await self._bounds(list(committed))
        found = {}
        for place, offset in committed.items():
            start, end = bounds[place]
            if offset is not None and offset < start:
                log.error(
                    "records were deleted before they were read",
                    topic=place.topic,
                    partition=place.partition,
                    committed=offset,
                    log_start=start,
                )
            found[place] = start if offset is None else max(start, offset)
            async with deadline(self._limit_s, f"log up to the committed offset {offset}"):
                while end < found[place]:
                    await asyncio.sleep(ASK_AGAIN_S)
                    end = (await self._bounds([place]))[place].end
        return found

    async def replay_from(self, place: TopicPartition, offset: int, horizon_ms: int) -> int:
        """Give the offset from which records can still matter for a decision at `offset`."""
        [bounds] = (await self._bounds([place])).values()
        newest = await self._last_transaction_ms(place, offset, bounds.start)
        if newest is None:
            return offset
        if newest <= horizon_ms:  # an engine's time begins at 0: what is stamped before, is so then
            return min(offset, bounds.start)
        async with deadline(self._limit_s, "offset by time"):
            at = await offsets.since(self._client, [place], newest - horizon_ms)
        return offset if at[place] == offsets.NONE else min(offset, at[place])

    async def _bounds(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
        async with deadline(self._limit_s, "bounds of the log"):
            starts = await offsets.since(self._client, places, offsets.FIRST)
            ends = await offsets.since(self._client, places, offsets.END)
        return {place: Bounds(starts[place], ends[place]) for place in places}

    async def _last_transaction_ms(
        self, place: TopicPartition, offset: int, start: int
    ) -> int | None:
        """Give the timestamp of the last transaction before `offset`; None if there is none.

        Of the last transaction, since those alone move the engine's time. Offsets before it may
        belong to poison records, to control records or to none: look back further each time.
        """
        back = LOOK_BACK
        found: int | None = None
        begin = end = offset
        while begin > start and found is None:
            begin = max(start, offset - back)
            at = begin
            while at < end:
                # A limit for each step: there may be millions of records that are none.
                async with deadline(self._limit_s, "records before the committed offset"):
                    while (chunk := await self._source.peek(place, at)) is None:
                        pass
                for record in chunk.records:
                    if record.offset < end and transaction_in(record):
                        found = record.timestamp
                at = chunk.next_offset
            end = begin
            back *= 8
        return found
