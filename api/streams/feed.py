"""One verdict topic, followed: one read_committed consumer per topic and process.

The consumer has no group: each process reads everything. Its positions are kept here, so that a
new consumer goes on where the last one broke off.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from api.settings import ApiSettings
from api.streams.event import Event
from wire import access, kafka, topics
from wire.errors import AccessError
from wire.tracing import sampled

log = structlog.get_logger(__name__)

POLL_MS: Final = 500
"""Longest wait for records."""
MAX_POLL_RECORDS: Final = 2_000
FOLLOWING_WITHIN_S: Final = 5.0
"""A feed whose last answer from a broker is older than this does not follow."""
LOOK_EVERY_S: Final = 1.0
"""How often the consumer is looked after."""
STUCK_AFTER_S: Final = 12.0
"""After this long without an answer the consumer is made anew (aiokafka #1154, #847)."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0


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
        """Next offset to read, by partition; past control records that were skipped."""
        self.caught_up = False
        """True once everything that was there at the start has been read."""
        self._settings = settings
        self._reader = reader
        self._stamps: dict[int, int] = {}
        self._ends: list[int] = []
        self._consumer: AIOKafkaConsumer | None = None
        self._assigned_at = 0.0
        self._looked_at = 0.0

    @property
    def following(self) -> bool:
        """True while every partition has been answered for a moment ago."""
        return self.caught_up and self._silence() < FOLLOWING_WITHIN_S

    def lag(self) -> int:
        """Count the offsets between what was read and what can be read."""
        consumer = self._consumer
        if consumer is None:
            return 0
        stable = [consumer.last_stable_offset(tp) or 0 for tp in consumer.assignment()]
        return max(0, sum(stable) - sum(self.next))

    async def run(self) -> None:
        """Follow until cancelled, through any trouble of the brokers."""
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._follow()
            except (AccessError, KafkaError, OSError, TimeoutError) as error:
                cause = access.refused(error, self._settings) or repr(error)
                log.warning("feed broke off", topic=self.name, error=str(cause), retry_in_s=pause)
            except asyncio.CancelledError:
                if _asked_to_stop():
                    raise
                log.warning("feed was cancelled from within aiokafka", topic=self.name)
            except Exception:
                # Such as uvloop's RuntimeError on a closed transport (aiokafka #1038): a feed
                # that is not there silences all streams, a new consumer costs little.
                log.exception("feed failed", topic=self.name)
            if time.monotonic() - began > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def earliest(self) -> Mapping[int, int]:
        """Give each partition's first offset.

        Raises:
            KafkaError, OSError: no broker answers.
        """
        consumer = self._connected()
        return _by_partition(await consumer.beginning_offsets(self._partitions()))

    async def ends(self) -> Mapping[int, int]:
        """Give each partition's end: one past the last offset a reader may see.

        Raises:
            KafkaError, OSError: no broker answers.
        """
        return _by_partition(await self._connected().end_offsets(self._partitions()))

    async def since(self, timestamp_ms: int) -> Mapping[int, int]:
        """Give each partition's first offset stamped at or after a time, or its end.

        Raises:
            KafkaError, OSError: no broker answers.
        """
        consumer = self._connected()
        ends = await self.ends()
        found = await consumer.offsets_for_times(dict.fromkeys(self._partitions(), timestamp_ms))
        return {
            tp.partition: ends[tp.partition] if at is None else at.offset
            for tp, at in found.items()
        }

    async def _follow(self) -> None:
        count = (await topics.wait(self._settings, self.name))[self.name]
        consumer = await kafka.start(
            lambda: kafka.consumer(
                self._settings,
                fetch_max_wait_ms=self._settings.stream_fetch_wait_ms,
                max_poll_records=MAX_POLL_RECORDS,
            )
        )
        try:
            self._consumer = consumer
            await self._assign(consumer, count)
            self._assigned_at = time.time()
            while True:
                await self._poll(consumer)
        finally:
            self._consumer = None
            await kafka.close(consumer)

    async def _assign(self, consumer: AIOKafkaConsumer, count: int) -> None:
        partitions = [TopicPartition(self.name, p) for p in range(count)]
        consumer.assign(partitions)
        if not self.next:
            firsts = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            tail = self._settings.stream_tail_records
            self._ends = [ends[tp] for tp in partitions]
            self.next = [max(firsts[tp], ends[tp] - tail) for tp in partitions]
            for partition, offset in enumerate(self.next):
                self._reader.begin(self.topic, partition, offset)
        for partition in range(len(self.next), count):
            log.info("new partition", topic=self.name, partition=partition)
            self.next.append(0)
            self._ends.append(0)
            self._reader.begin(self.topic, partition, 0)
        for tp in partitions:
            consumer.seek(tp, self.next[tp.partition])

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        try:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_POLL_RECORDS)
        except OffsetOutOfRangeError as error:
            await self._relocate(consumer, error.args[0])
            return
        events = [
            Event(
                self.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.value,
                traceparent=sampled(record.headers) if record.headers else None,
            )
            for records in fetched.values()
            for record in records
            if record.value is not None
        ]
        # In one go: whoever looks between must not find positions ahead of the events.
        positions = {tp.partition: await consumer.position(tp) for tp in consumer.assignment()}
        for partition, position in positions.items():
            self.next[partition] = position
        if not self.caught_up:
            self.caught_up = all(
                read >= end for read, end in zip(self.next, self._ends, strict=True)
            )
        for event in events:
            self._stamps[event.partition] = event.timestamp_ms
        self._reader.read(self.topic, events)
        self._look_after(consumer)

    def _look_after(self, consumer: AIOKafkaConsumer) -> None:
        """Have the consumer made anew if it is stuck, or knows too few partitions."""
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        silence = self._silence()
        if silence > STUCK_AFTER_S:
            raise TimeoutError(f"no answer from a broker for {silence:.0f} s")
        known = consumer.partitions_for_topic(self.name) or ()
        if len(known) > len(self.next):
            raise TimeoutError(f"the topic has {len(known)} partitions now")

    async def _relocate(
        self, consumer: AIOKafkaConsumer, out_of_range: Mapping[TopicPartition, int]
    ) -> None:
        """Go on where the log does: retention overtook us, or the topic was made anew or cut."""
        firsts = await consumer.beginning_offsets(list(out_of_range))
        ends = await consumer.end_offsets(list(out_of_range))
        for tp, expected in out_of_range.items():
            offset = firsts[tp]
            if expected > ends[tp]:
                # A topic made anew is read from its start, one that lost its end from where we
                # were: both are what is stamped later than the last record read.
                stamp = self._stamps.get(tp.partition, -1) + 1
                later = (await consumer.offsets_for_times({tp: stamp}))[tp]
                offset = ends[tp] if later is None else later.offset
            log.warning(
                "records are gone",
                topic=self.name,
                partition=tp.partition,
                expected=expected,
                offset=offset,
            )
            self.next[tp.partition] = offset
            self._reader.lost(self.topic, tp.partition, expected, offset)
            consumer.seek(tp, offset)

    def _silence(self) -> float:
        """Give the age of the oldest partition's last answer, in seconds."""
        consumer = self._consumer
        if consumer is None or not consumer.assignment():
            return float("inf")
        answers = [(consumer.last_poll_timestamp(tp) or 0) / 1000 for tp in consumer.assignment()]
        return time.time() - max(min(answers), self._assigned_at)

    def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise ConnectionError(f"not connected to Kafka for {self.name}")
        return self._consumer

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self.name, p) for p in range(len(self.next))]


def _by_partition(offsets: Mapping[TopicPartition, int]) -> Mapping[int, int]:
    return {tp.partition: offset for tp, offset in offsets.items()}


def _asked_to_stop() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
