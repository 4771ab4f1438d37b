"""The source: fetches partitions from their leaders, in one request a broker.

aiokafka's consumer makes an object of each record, at as much as decoding it costs, and fetches
ahead as it sees fit. The few records of the next moment come alone, so that all those gathered
since wait for one more round; and a partition whose records were just taken is left out of the
fetch that is under way, and waits until that one has waited for the others. Here every fetch asks
for all that a broker leads: one that keeps up is asked when there is time for it, one with a
back-log while the records before are handled.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from typing import Any, Final, NamedTuple

import structlog
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest

from wire import kafka
from wire.deadline import deadline
from wire.errors import RecordsGoneError, StuckError
from wire.records import Record, unpack
from wire.settings import KafkaSettings

log = structlog.get_logger(__name__)
ASK_AGAIN_S: Final = 0.1
"""Pause after an answer that was none."""
TELL_EVERY_S: Final = 30.0
"""How often it is told that a broker still gives none."""
_NO_BROKER: Final = -1
"""Stands for the leader of those that have none."""
_COMMITTED: Final = 1
"""Isolation level read_committed."""
_OFFSET_OUT_OF_RANGE: Final = 1


class Limits(NamedTuple):
    """What one fetch may take."""

    wait_ms: int
    """How long a broker waits for the first record."""
    partition_bytes: int
    """Most bytes of one partition; a larger record comes alone."""
    total_bytes: int
    """Most bytes of one broker."""
    deadline_s: float
    """How long it takes a broker that is stuck; more than the wait.

    Above a client's own limit for an answer (40 s), such a broker is asked anew and nothing raised.
    """


class Chunk(NamedTuple):
    """Consecutive records of a partition."""

    place: TopicPartition
    records: list[Record]
    next_offset: int
    """Where the partition goes on."""
    lag: int
    """Records between there and the end of what is committed, as of the fetch."""

    def cut(self, most: int) -> Iterator["Chunk"]:
        """Cut it into chunks of so many records at most."""
        records, count = self.records, len(self.records)
        for first in range(0, max(1, count), most):
            end = first + most
            yield self._replace(
                records=records[first:end],
                next_offset=records[end].offset if end < count else self.next_offset,
            )


class Standing(NamedTuple):
    """How a partition stood when it was last answered for."""

    at: float
    """When that was (time.monotonic)."""
    lag: int
    """As in a chunk."""


Answer = dict[TopicPartition, tuple[int, tuple[Any, ...]]]
"""Of each partition the offset asked for, and its part of the response."""


class Source:
    """Reads partitions, each from where it is told to."""

    def __init__(self, client: AIOKafkaClient, limits: Limits) -> None:
        self.standings: dict[TopicPartition, Standing] = {}
        """Of each partition that was answered for, also of those with nothing new."""
        self._client = client
        self._limits = limits
        self._positions: dict[TopicPartition, int] = {}
        self._fetching: dict[int, asyncio.Task[Answer]] = {}
        self._failing: dict[int, float] = {}
        """When it was told last that a broker gives no answer, by its number."""
        self._answered_at = time.monotonic()

    @property
    def silence(self) -> float:
        """How long no broker at all has answered, in seconds."""
        return time.monotonic() - self._answered_at

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Read a partition on from this offset; what was fetched of it is dropped."""
        self._positions[place] = offset

    def leave(self, place: TopicPartition) -> None:
        """Read a partition no more, until it is told from where."""
        self._positions.pop(place, None)

    async def read(self) -> list[Chunk]:
        """Give what has come of each partition, waiting for it; empty if there was nothing.

        After an error each partition is read on from where it stood.

        Raises:
            RecordsGoneError: what is to be read is not there any more.
            StuckError: a broker has not answered for as long as the deadline, or what it gave is
                damaged.
            KafkaError: it refuses for good.
        """
        self._fetch()
        done, _ = await asyncio.wait(self._fetching.values(), return_when=asyncio.FIRST_COMPLETED)
        self._fetching = {n: task for n, task in self._fetching.items() if task not in done}
        failures = [error for task in done if (error := task.exception()) is not None]
        if failures:
            raise failures[0]
        chunks = []
        # One by one: where a partition has changed its leader, both may have answered just now.
        for chunk in chain.from_iterable(self._chunks(task.result()) for task in done):
            # Behind all others: in a request the first come first, up to its most bytes.
            del self._positions[chunk.place]
            self._positions[chunk.place] = chunk.next_offset
            chunks.append(chunk)
        if any(chunk.lag for chunk in chunks):
            self._fetch()
        return chunks

    async def peek(self, place: TopicPartition, offset: int) -> Chunk | None:
        """Give what lies at an offset, wherever the reading is; None if it can't be had now."""
        node = self._leader(place)
        asking = (
            self._look_for_leaders((place,))
            if node == _NO_BROKER
            else self._ask(node, {place: offset}, wait_ms=0)
        )
        answer = await asking
        for found, (asked, part) in answer.items():
            chunk = _chunk(found, asked, part)
            if chunk.next_offset > asked:
                return chunk
        await asyncio.sleep(ASK_AGAIN_S)
        return None

    async def stop(self) -> None:
        """End all fetches."""
        for task in self._fetching.values():
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    def _leader(self, place: TopicPartition) -> int:
        leader: int | None = self._client.cluster.leader_for_partition(place)
        return _NO_BROKER if leader is None else leader

    def _fetch(self) -> None:
        """Ask each broker that is not being asked for the partitions that it leads."""
        wanted: dict[int, dict[TopicPartition, int]] = {}
        for place, offset in self._positions.items():
            leader = self._leader(place)
            if leader not in self._fetching:
                wanted.setdefault(leader, {})[place] = offset
        for node, positions in wanted.items():
            asking = (
                self._look_for_leaders(positions)
                if node == _NO_BROKER
                else self._ask(node, positions, wait_ms=self._limits.wait_ms)
            )
            self._fetching[node] = asyncio.create_task(asking, name=f"fetch from {node}")

    async def _look_for_leaders(self, places: Iterable[TopicPartition]) -> Answer:
        now = time.monotonic()
        # They may come in a moment: nothing is told of the first time.
        if now - self._failing.setdefault(_NO_BROKER, now) > TELL_EVERY_S:
            self._failing[_NO_BROKER] = now
            names = [f"{place.topic}-{place.partition}" for place in places]
            log.warning("no broker leads them; trying on", partitions=names)
        async with deadline(self._limits.deadline_s, "leaders of the partitions"):
            await self._client.force_metadata_update()
        await asyncio.sleep(ASK_AGAIN_S)
        return {}

    async def _ask(
        self, node: int, positions: Mapping[TopicPartition, int], *, wait_ms: int
    ) -> Answer:
        by_topic: dict[str, list[tuple[int, int, int]]] = {}
        for place, offset in positions.items():
            entry = (place.partition, offset, self._limits.partition_bytes)
            by_topic.setdefault(place.topic, []).append(entry)
        request = FetchRequest(
            wait_ms, 1, self._limits.total_bytes, _COMMITTED, list(by_topic.items())
        )
        try:
            async with deadline(self._limits.deadline_s, "a fetch"):
                response = await self._client.send(node, request)
        except KafkaError as error:
            await self._failed(node, repr(error))
            return {}
        answer: Answer = {}
        refused = None
        for topic, parts in response.topics:
            for number, code, *part in parts:
                place = TopicPartition(topic, number)
                if code:
                    refused = _refusal(place, positions[place], code)
                else:
                    answer[place] = positions[place], tuple(part)
        if answer:
            self._answered_at = time.monotonic()
        if refused:
            await self._failed(node, refused)
        elif answer:
            self._failing.pop(node, None)
        return answer

    async def _failed(self, node: int, error: str) -> None:
        now = time.monotonic()
        if now - self._failing.get(node, float("-inf")) > TELL_EVERY_S:
            self._failing[node] = now
            log.warning("can't fetch; trying on", broker=node, error=error)
        self._client.force_metadata_update()
        await asyncio.sleep(ASK_AGAIN_S)

    def _chunks(self, answer: Answer) -> Iterable[Chunk]:
        now = time.monotonic()
        for place, (asked, part) in answer.items():
            if self._positions.get(place) == asked:  # it was not told to go elsewhere since
                chunk = _chunk(place, asked, part)
                self.standings[place] = Standing(now, chunk.lag)
                if chunk.next_offset > asked:
                    yield chunk


@asynccontextmanager
async def opened(
    settings: KafkaSettings,
    topics: Iterable[str],
    limits: Limits,
    *,
    patience: float | None = None,
) -> AsyncIterator[tuple[kafka.RawClient, Source]]:
    """Connect, outside any group; give what fetches, and the client to ask about the topics.

    Args:
        settings: where Kafka is.
        topics: what is to be read; they must be there.
        limits: of each fetch.
        patience: as of kafka.start, and so is what is raised.
    """
    async with AsyncExitStack() as stack:
        client = await kafka.start(lambda: kafka.client(settings, topics), patience=patience)
        stack.push_async_callback(kafka.close, client)
        source = Source(client, limits)
        stack.push_async_callback(source.stop)
        yield client, source


def _refusal(place: TopicPartition, offset: int, code: int) -> str:
    """Say why a partition can't be had now; raises where it is for good."""
    error = for_code(code)
    if code == _OFFSET_OUT_OF_RANGE:
        raise RecordsGoneError(place, offset)
    if not error.retriable:
        raise error(place)
    return f"{error.__name__}: {place}"


def _chunk(place: TopicPartition, asked: int, part: tuple[Any, ...]) -> Chunk:
    # Since version 4: end of the log, end of what is stable, ..., aborted transactions, [replica],
    # records. Where the replica is named, it is a number.
    end = part[0] if part[1] < 0 else part[1]
    aborted = part[-2] if isinstance(part[-2], list) or part[-2] is None else part[-3]
    try:
        records, next_offset = unpack(part[-1] or b"", asked, aborted or ())
    except CorruptRecordException as error:
        raise StuckError(f"{place}: {error}") from error
    return Chunk(place, records, next_offset, max(0, end - next_offset))
