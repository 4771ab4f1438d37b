"""One client's way from where it left to the live stream: from Kafka, then the ring, then live."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from api.streams import sse
from api.streams.filters import Filter
from api.streams.hub import Hub
from api.streams.position import STREAMS, Cursor, Position
from api.streams.replay import Replays
from api.streams.subscription import Cause, Subscription
from wire.errors import AccessError, BrokerUnreachableError, StuckError

log = structlog.get_logger(__name__)
PAUSE_S: Final = 1.0
"""Pause before the brokers are asked again."""
SLOT_PATIENCE_S: Final = 1.0
"""How long a replay waits for its client before it makes room for another client's."""
ID_BYTES_AT_A_TIME: Final = 256 << 10
"""Of the events encoded in one turn, the ids: one is 24 KB where a client says that it has so many
partitions."""
AHEAD_PATIENCE_S: Final = 2.0
"""A position ahead of this process is another process's; for how long that is taken for granted."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client asked for."""

    stream: str
    only: Filter | None = None
    position: Position | None = None
    """Where it left; None: live, or from `since`."""
    since: int | Literal["earliest"] | None = None
    """From records stamped at or after this time, in milliseconds since the Unix epoch."""

    @property
    def topics(self) -> tuple[int, ...]:
        """The topics of the stream."""
        return STREAMS[self.stream]


class Catchup:
    """Feeds a subscription until it has joined its channel."""

    def __init__(self, hub: Hub, replays: Replays, wish: Wish, member: Subscription) -> None:
        self._hub = hub
        self._replays = replays
        self._wish = wish
        self._member = member
        self._names = {topic: hub.feeds[topic].name for topic in wish.topics}

    async def run(self) -> None:
        """Bring the client up to the live stream; returns when it has joined, or has ended."""
        await self._hub.ready(self._wish.topics)
        cursor = None
        while self._member.cause is None:
            await self._room()
            try:
                if cursor is None:
                    cursor = await self._begin()
                    self._member.offer(sse.progress(cursor.id()))
                if self._hub.ring.reaches(cursor):
                    if await self._from_ring(cursor):
                        return
                else:
                    await self._from_kafka(cursor)
            except (KafkaError, AccessError, BrokerUnreachableError, StuckError, OSError) as error:
                log.warning("client waits for its history", error=repr(error))
                await asyncio.sleep(PAUSE_S)

    async def _begin(self) -> Cursor:
        wish = self._wish
        if wish.position is not None:
            return Cursor(Position({topic: wish.position.vectors[topic] for topic in wish.topics}))
        if wish.since is None:
            return Cursor(self._hub.channels[wish.stream].cursor.position())
        vectors = {}
        for topic in wish.topics:
            feed = self._hub.feeds[topic]
            if wish.since == "earliest":
                found = await feed.earliest()
            else:
                found = await feed.since(wish.since)
                first = await feed.earliest()
                # Where all that is left is late enough, some of what is gone may have been, too.
                found = {p: 0 if at == first[p] else at for p, at in found.items()}
            vectors[topic] = tuple(found[p] for p in sorted(found))
        return Cursor(Position(vectors))

    async def _from_ring(self, cursor: Cursor) -> bool:
        """Serve what the ring holds; True when the client has joined the live stream.

        False when the ring has moved on beyond the client meanwhile.
        """
        ring = self._hub.ring
        number = ring.since(cursor)
        size = min(self._hub.settings.stream_page_records, _events_at_a_time(cursor))
        ahead_since: float | None = None
        while self._member.cause is None:
            async with self._hub.catching_up:
                if number < ring.first:
                    return False
                page = ring.page(number, size)
                number += len(page)
                wanted = [event for event in page if event.topic in self._names]
                if chunk := sse.encode(wanted, cursor, self._wish.only):
                    self._member.offer(chunk)
                    await asyncio.sleep(0)
            await self._room()
            if number < ring.end:
                continue
            if self._hub.joins(self._wish.stream, cursor):
                self._hub.channels[self._wish.stream].join(self._member, self._wish.only)
                return True
            now = asyncio.get_running_loop().time()
            if ahead_since is None:
                ahead_since = now
            if now - ahead_since > AHEAD_PATIENCE_S:
                ahead_since = now
                await self._check_ends(cursor)
            await self._next_seal()
        return True

    async def _next_seal(self) -> None:
        try:
            async with asyncio.timeout(AHEAD_PATIENCE_S):
                await self._hub.sealed()
        except TimeoutError:
            return

    async def _from_kafka(self, cursor: Cursor) -> None:
        """Serve what lies between the client and where the stream stands now."""
        await self._check_starts(cursor)
        target = self._hub.channels[self._wish.stream].cursor.position()
        ranges = {
            TopicPartition(name, partition): (cursor.next(topic, partition), offset)
            for topic, name in self._names.items()
            for partition, offset in enumerate(target.vectors[topic])
            if cursor.next(topic, partition) < offset
        }
        if not ranges:  # all that was missed is gone
            return
        indices = {name: topic for topic, name in self._names.items()}
        pages = self._replays.read(ranges, indices)
        try:
            async for events, where in pages:
                size = _events_at_a_time(cursor)
                for first in range(0, max(1, len(events)), size):
                    some = events[first : first + size]
                    if chunk := sse.encode(some, cursor, self._wish.only):
                        self._member.offer(chunk)
                    # A client that takes its time waits outside: others want its place in here.
                    if not await self._takes_all(SLOT_PATIENCE_S) or self._member.cause is not None:
                        return
                for tp, offset in where.items():
                    topic = indices[tp.topic]
                    if offset > cursor.next(topic, tp.partition):
                        cursor.move(topic, tp.partition, offset)
        finally:
            await pages.aclose()

    async def _check_starts(self, cursor: Cursor) -> None:
        """Move past what the brokers no longer have, and say so."""
        missing = []
        for topic in self._wish.topics:
            for partition, first in (await self._hub.feeds[topic].earliest()).items():
                expected = cursor.next(topic, partition)
                if expected < first:
                    cursor.move(topic, partition, first)
                    missing.append(self._missing(topic, partition, expected, first))
        self._tell(cursor, missing)

    async def _check_ends(self, cursor: Cursor) -> None:
        """Move back to the end where the client stands beyond it, and say so."""
        missing = []
        for topic in self._wish.topics:
            for partition, end in (await self._hub.feeds[topic].ends()).items():
                expected = cursor.next(topic, partition)
                if expected > end:
                    cursor.move(topic, partition, end)
                    missing.append(self._missing(topic, partition, expected, end))
        self._tell(cursor, missing)

    def _missing(self, topic: int, partition: int, expected: int, offset: int) -> Mapping[str, Any]:
        return sse.missing(self._names[topic], partition, expected, offset)

    def _tell(self, cursor: Cursor, missing: Sequence[Mapping[str, Any]]) -> None:
        if missing:
            self._member.offer(sse.gap(cursor.id(), missing))

    async def _room(self) -> None:
        if not await self._takes_all(self._hub.settings.stream_stall_seconds):
            self._member.cut(Cause.STALLED)

    async def _takes_all(self, patience: float) -> bool:
        """Wait until the client has taken what is queued; False if that takes too long."""
        try:
            async with asyncio.timeout(patience):
                await self._member.room()
        except TimeoutError:
            return False
        return True


def _events_at_a_time(cursor: Cursor) -> int:
    """Give how many events to encode in one turn of the event loop, as each has an id."""
    return max(1, ID_BYTES_AT_A_TIME // len(cursor.id()))
