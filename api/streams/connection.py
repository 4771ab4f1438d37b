"""A feed's connection to Kafka: its topic's records, committed ones only, and where they lie."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import TopicPartition

from api.settings import ApiSettings
from wire import offsets
from wire.kafka import RawClient
from wire.source import Chunk, Limits, Source, opened

OFFSETS_WITHIN_S: Final = 10.0
"""How long the brokers are asked where records lie."""


class Connection:
    """Reads one topic, each partition from where it is told to."""

    def __init__(self, topic: str, client: RawClient, source: Source) -> None:
        self._topic = topic
        self._client = client
        self._source = source
        self._since: dict[TopicPartition, float] = {}
        """When each partition was first to be read."""

    @property
    def unread(self) -> list[int]:
        """The partitions that the topic is known to have, and that nobody was told to read."""
        known: set[int] = self._client.cluster.partitions_for_topic(self._topic) or set()
        return sorted(known - {place.partition for place in self._since})

    @property
    def silence(self) -> float:
        """The age of the last answer for the partition that had none for longest, in seconds."""
        standings = self._source.standings
        answers = [
            standings[place].at if place in standings else since
            for place, since in self._since.items()
        ]
        return time.monotonic() - min(answers, default=float("-inf"))

    @property
    def lag(self) -> int:
        """Offsets between what was read and what can be read, as of the last answers."""
        return sum(standing.lag for standing in self._source.standings.values())

    def seek(self, partition: int, offset: int) -> None:
        """Read a partition, from this offset on."""
        place = TopicPartition(self._topic, partition)
        self._since.setdefault(place, time.monotonic())
        self._source.seek(place, offset)

    async def read(self) -> list[Chunk]:
        """Wait for records; what is raised is as of Source.read."""
        return await self._source.read()

    async def earliest(self, partitions: Collection[int]) -> dict[int, int]:
        """Give the first offsets, by partition.

        Raises:
            KafkaError, TimeoutError: no broker answers.
        """
        return await self._offsets(partitions, offsets.FIRST)

    async def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """Give the ends, by partition: one past the last offset a reader may see.

        Raises:
            KafkaError, TimeoutError: no broker answers.
        """
        return await self._offsets(partitions, offsets.END)

    async def since(self, partitions: Collection[int], timestamp_ms: int) -> dict[int, int]:
        """Give the first offsets stamped at or after a time, by partition; the end if none is.

        Raises:
            KafkaError, TimeoutError: no broker answers.
        """
        ends = await self.ends(partitions)
        found = await self._offsets(partitions, timestamp_ms)
        return {p: ends[p] if at == offsets.NONE else at for p, at in found.items()}

    async def _offsets(self, partitions: Collection[int], timestamp_ms: int) -> dict[int, int]:
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        async with asyncio.timeout(OFFSETS_WITHIN_S):
            found = await offsets.since(self._client, places, timestamp_ms)
        return {place.partition: offset for place, offset in sorted(found.items())}


@asynccontextmanager
async def connected(
    settings: ApiSettings, topic: str, *, deadline_s: float
) -> AsyncIterator[Connection]:
    """Connect; waits for a broker that is not up yet.

    Args:
        settings: where Kafka is, and the bounds of a fetch.
        topic: what to read; it must be there.
        deadline_s: how long a broker may take for a fetch.
    """
    limits = Limits(
        wait_ms=settings.stream_fetch_wait_ms,
        partition_bytes=settings.stream_fetch_bytes,
        total_bytes=settings.stream_fetch_total_bytes,
        deadline_s=deadline_s,
    )
    async with opened(settings, [topic], limits) as (client, source):
        yield Connection(topic, client, source)
