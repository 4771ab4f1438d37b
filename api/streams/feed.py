"""One verdict topic, followed: each process reads everything, once, for all of its streams.

The positions are kept here, so that a new connection goes on where the last one broke off.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Protocol

import structlog
from aiokafka.errors import KafkaError

from api.errors import ReaderError
from api.settings import ApiSettings
from api.streams.connection import Connection, connected
from api.streams.event import Event
from wire import access, topics
from wire.errors import FraudstreamError, RecordsGoneError
from wire.source import Chunk
from wire.tracing import sampled

log = structlog.get_logger(__name__)

RECORDS_IN_ONE_GO: Final = 1_000
"""Most records handed over before the event loop gets its turn: some milliseconds' work."""
FOLLOWING_WITHIN_S: Final = 5.0
"""A feed whose last answer from a broker is older than this does not follow."""
LOOK_EVERY_S: Final = 1.0
"""How often the connection is looked after."""
STUCK_AFTER_S: Final = 12.0
"""After this long without an answer it is made anew: the brokers may be elsewhere by then."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
FAILURES_IN_A_ROW: Final = 8
"""So many unforeseen ones with nothing read in between, in 16 s at least, and it is given up."""


class Reader(Protocol):
    """Who takes in what a feed reads."""

    def begin(self, topic: int, partition: int, offset: int) -> None:
        """Learn that a partition will be read from an offset on."""

    def read(self, topic: int, events: Sequence[Event]) -> None:
        """Take in events, in order within each partition."""

    def lost(self, topic: int, partition: int, expected: int, offset: int) -> None:
        """Learn that a partition goes on at another offset than expected."""


class Feed:
    """Follows one topic for as long as `run` runs."""

    def __init__(self, settings: ApiSettings, topic: int, name: str, reader: Reader) -> None:
        self.topic = topic
        self.name = name
        self.next: list[int] = []
        """Next offset to read, by partition; past control records that were skipped.

        0 for one that the topic had before it was made anew with fewer: nothing is there.
        """
        self.caught_up = False
        """True once everything that was there at the start has been read."""
        self._settings = settings
        self._reader = reader
        self._stamps: dict[int, int] = {}
        self._ends: list[int] = []
        self._there = 0
        """How many partitions the topic has."""
        self._connection: Connection | None = None
        self._looked_at = 0.0
        self._failures = 0
        """Unforeseen ones, since something was read."""

    @property
    def following(self) -> bool:
        """True while every partition has been answered for a moment ago."""
        connection = self._connection
        return self.caught_up and connection is not None and connection.silence < FOLLOWING_WITHIN_S

    def lag(self) -> int:
        """Count the offsets between what was read and what can be read."""
        return 0 if self._connection is None else self._connection.lag

    async def run(self) -> None:
        """Follow until cancelled, through any trouble of the brokers.

        Raises:
            ReaderError: what was read was not taken in.
            Exception: a failure that was not foreseen, and that new connections don't end.
        """
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._follow()
            except ReaderError:
                raise
            except (FraudstreamError, KafkaError, OSError) as error:
                cause = access.refused(error, self._settings) or repr(error)
                log.warning("feed broke off", topic=self.name, error=str(cause), retry_in_s=pause)
            except asyncio.CancelledError:
                if _asked_to_stop():
                    raise
                log.warning("feed was cancelled from within aiokafka", topic=self.name)
            except Exception:
                # Such as uvloop's RuntimeError on a closed transport (aiokafka #1038): a feed
                # that is not there silences all streams, a new connection costs little.
                self._failures += 1
                if self._failures == FAILURES_IN_A_ROW:
                    raise
                log.exception("feed failed", topic=self.name)
            if time.monotonic() - began > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def earliest(self) -> Mapping[int, int]:
        """Give each partition's first offset.

        Raises:
            KafkaError, OSError, TimeoutError: no broker answers.
        """
        return self._of_all(await self._connected().earliest(range(self._there)))

    async def ends(self) -> Mapping[int, int]:
        """Give each partition's end: one past the last offset a reader may see.

        Raises:
            KafkaError, OSError, TimeoutError: no broker answers.
        """
        return self._of_all(await self._connected().ends(range(self._there)))

    async def since(self, timestamp_ms: int) -> Mapping[int, int]:
        """Give each partition's first offset stamped at or after a time, or its end.

        Raises:
            KafkaError, OSError, TimeoutError: no broker answers.
        """
        found = await self._connected().since(range(self._there), timestamp_ms)
        return self._of_all(found)

    def _of_all(self, found: Mapping[int, int]) -> Mapping[int, int]:
        return {partition: found.get(partition, 0) for partition in range(len(self.next))}

    async def _follow(self) -> None:
        count = (await topics.wait(self._settings, self.name))[self.name]
        async with connected(self._settings, self.name, deadline_s=STUCK_AFTER_S) as connection:
            self._connection = connection
            try:
                if not self.next:
                    await self._begin(connection, count)
                for partition in range(count):
                    self._follow_partition(connection, partition)
                self._there = count
                for partition in range(count, len(self.next)):
                    self._leave_partition(partition)
                while True:
                    await self._read(connection)
                    self._look_after(connection)
            finally:
                self._connection = None

    async def _begin(self, connection: Connection, count: int) -> None:
        firsts = await connection.earliest(range(count))
        ends = await connection.ends(range(count))
        tail = self._settings.stream_tail_records
        self._ends = [ends[partition] for partition in range(count)]
        self.next = [max(firsts[p], ends[p] - tail) for p in range(count)]
        for partition, offset in enumerate(self.next):
            self._tell(self._reader.begin, partition, offset)

    def _follow_partition(self, connection: Connection, partition: int) -> None:
        if partition == len(self.next):
            log.info("new partition", topic=self.name, partition=partition)
            self.next.append(0)
            self._ends.append(0)
            self._tell(self._reader.begin, partition, 0)
        self._there = max(self._there, partition + 1)
        connection.seek(partition, self.next[partition])

    def _leave_partition(self, partition: int) -> None:
        """Go to the start of a partition that is no more, and tell who stood in it."""
        expected = self.next[partition]
        self.next[partition] = self._ends[partition] = 0
        self._stamps.pop(partition, None)
        if expected:
            log.warning(
                "partition is gone", topic=self.name, partition=partition, expected=expected
            )
            self._tell(self._reader.lost, partition, expected, 0)

    async def _read(self, connection: Connection) -> None:
        try:
            chunks = await connection.read()
        except RecordsGoneError as error:
            await self._relocate(connection, error.place.partition, error.offset)
            return
        events: list[Event] = []
        for piece in chain.from_iterable(chunk.cut(RECORDS_IN_ONE_GO) for chunk in chunks):
            # In one go: whoever looks between must not find positions ahead of the events.
            events += self._events(piece)
            self.next[piece.place.partition] = piece.next_offset
            if len(events) >= RECORDS_IN_ONE_GO:
                self._hand_over(events)
                events = []
                await asyncio.sleep(0)
        self._hand_over(events)

    def _events(self, chunk: Chunk) -> list[Event]:
        partition = chunk.place.partition
        if chunk.records:
            self._stamps[partition] = chunk.records[-1].timestamp
        return [
            Event(
                self.topic,
                partition,
                record.offset,
                record.timestamp,
                record.value,
                traceparent=sampled(record.headers) if record.headers else None,
            )
            for record in chunk.records
            if record.value is not None
        ]

    def _hand_over(self, events: Sequence[Event]) -> None:
        if not self.caught_up:
            self.caught_up = all(
                read >= end for read, end in zip(self.next, self._ends, strict=True)
            )
        self._tell(self._reader.read, events)
        self._failures = 0

    def _tell(self, take_in: Callable[..., None], *what: Any) -> None:
        try:
            take_in(self.topic, *what)
        except Exception as error:
            raise ReaderError(f"what was read of {self.name} was not taken in") from error

    def _look_after(self, connection: Connection) -> None:
        """Have the connection made anew if it is stuck; follow partitions that were added."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        if connection.silence > STUCK_AFTER_S:
            raise TimeoutError(f"no answer from a broker for {connection.silence:.0f} s")
        for partition in connection.unread:
            self._follow_partition(connection, partition)

    async def _relocate(self, connection: Connection, partition: int, expected: int) -> None:
        """Go on where the log does: retention overtook us, or the topic was made anew or cut."""
        offset = (await connection.earliest([partition]))[partition]
        if expected > (await connection.ends([partition]))[partition]:
            # A topic made anew is read from its start, one that lost its end from where we
            # were: both are what is stamped later than the last record read.
            stamp = self._stamps.get(partition, -1) + 1
            offset = (await connection.since([partition], stamp))[partition]
        log.warning(
            "records are gone",
            topic=self.name,
            partition=partition,
            expected=expected,
            offset=offset,
        )
        self.next[partition] = offset
        self._tell(self._reader.lost, partition, expected, offset)
        connection.seek(partition, offset)

    def _connected(self) -> Connection:
        if self._connection is None:
            raise ConnectionError(f"not connected to Kafka for {self.name}")
        return self._connection


def _asked_to_stop() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
