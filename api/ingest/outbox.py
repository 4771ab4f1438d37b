"""The outbox: records gathered into one batch per partition, bounded, each batch answered once.

Each partition has one batch under way and gathers the next one meanwhile. So batches grow by
themselves with the load, no record waits for a timer, and a partition's records stay in order even
when the producer is replaced.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

import structlog

from api.errors import (
    DeliveryError,
    NotAcknowledgedError,
    OverloadedError,
    ShuttingDownError,
    UnreachableError,
)
from api.ingest.batch import NO_HEADERS, RECORD_OVERHEAD_BYTES, Batch, weight
from api.ingest.counts import Deliveries
from api.ingest.link import Link
from api.ingest.partitioning import partitioner
from api.ingest.producer import NO_OFFSET, Producer
from api.settings import ApiSettings
from wire.tracing import Headers

log = structlog.get_logger(__name__)
GATHER_S: Final = 0.005
"""How long records are held back at most, so that others can join their batch."""
QUIET_TURNS: Final = 8
"""Turns of the event loop without a record after which no more are expected.

A request may need two from the socket to the outbox, and the answers to the last batch have to
reach the clients first that are about to send the next; one in which nothing happens takes 10 µs.
"""
COMPANY: Final = 500
"""Records that wait for no others: a request to Kafka costs little beside so many."""
STUCK_AFTER_S: Final = 60.0
"""How long an overdue batch is tried again before a new producer takes over."""


class RecordTrace(Protocol):
    """Who traces requests (api.tracing)."""

    def headers(self) -> Headers:
        """Give the headers for a record of the current request; none if it isn't traced."""

    def put(self, batch: Batch) -> None:
        """Learn that a record with those headers is in a batch."""


class Lane:
    """One partition's batches: at most one under way, the others waiting in order."""

    __slots__ = ("flying", "partition", "waiting")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.flying: Batch | None = None
        self.waiting: deque[Batch] = deque()

    @property
    def overdue(self) -> bool:
        """Whether the batch under way was given up by those who waited for it."""
        return self.flying is not None and self.flying.settled


class Outbox:
    """Takes records in and gets them into Kafka, acknowledged by all in-sync replicas."""

    def __init__(self, settings: ApiSettings) -> None:
        self.bytes_in_flight = 0
        self.deliveries = Deliveries()
        self.trace: RecordTrace | None = None
        """Gives a traced request's records their headers; None where nothing is traced."""
        self._topic = settings.transactions_topic
        self._timeout = settings.delivery_timeout
        self._max_bytes = settings.max_bytes_in_flight
        self._cached_keys = settings.partition_cache_keys
        self._link = Link(settings, self._on_partitions, self._on_retired)
        self._lanes: list[Lane] = []
        self._partition: Callable[[bytes], int] = partitioner(1, 1)
        self._work = asyncio.Event()
        self._courier: asyncio.Task[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()
        self._closing = False
        self._failed = False
        self._gathered = 0

    @property
    def ready(self) -> bool:
        """Whether a record put now can be expected to reach Kafka."""
        reachable = self._link.connected and not all(lane.overdue for lane in self._lanes)
        return reachable and not self._closing

    @property
    def failed(self) -> bool:
        """Whether delivering has ended unasked: nothing brings it back in this process."""
        return self._failed or self._link.failed

    def start(self) -> None:
        """Begin to connect; until that is done, `put` raises UnreachableError."""
        self._link.start()
        self._courier = asyncio.create_task(self._deliver(), name="outbox courier")
        self._courier.add_done_callback(self._ended)

    async def stop(self, within: float) -> None:
        """Take nothing more, send what is there; every batch is settled in time.

        Args:
            within: seconds until the rest is given up.
        """
        self._closing = True
        until = time.monotonic() + within
        while self.bytes_in_flight and time.monotonic() < until:
            await asyncio.wait([self._next_settled()], timeout=until - time.monotonic())
        if self._courier is not None:
            self._courier.cancel()
        for lane in self._lanes:
            for batch in list(lane.waiting):
                self._drop(lane, batch, UnreachableError("the gateway shut down first"))
            if lane.flying is not None:
                self._land(lane, lane.flying, error=_unknown("the gateway shut down first"))
        await self._link.stop()

    def put(self, key: bytes, value: bytes) -> tuple[Batch, int]:
        """Put a record in; give its batch and its place there, counted from 0.

        Raises:
            ShuttingDownError, UnreachableError, OverloadedError: it was not taken.
        """
        size = len(key) + len(value) + RECORD_OVERHEAD_BYTES
        self._check(size)
        lane = self._lanes[self._partition(key)]
        now_ms = int(time.time() * 1000)
        headers = NO_HEADERS if self.trace is None else self.trace.headers()
        waiting = lane.waiting
        if not waiting or not waiting[-1].append(now_ms, key, value, headers):
            self._begin(lane).append(now_ms, key, value, headers)
        batch = waiting[-1]
        if headers and self.trace is not None:
            self.trace.put(batch)
        self._gathered += 1
        self.bytes_in_flight += size
        return batch, batch.count - 1

    def put_all(self, keys: Sequence[bytes], values: Sequence[bytes]) -> list[Batch]:
        """Put records in; give the batch of each.

        Raises:
            ShuttingDownError, UnreachableError, OverloadedError: none was taken.
        """
        size = weight(keys, values)
        self._check(size)
        for lane in self._lanes:
            self._check_lane(lane)
        headers = NO_HEADERS if self.trace is None else self.trace.headers()
        now_ms = int(time.time() * 1000)
        partitions = list(map(self._partition, keys))
        shares: dict[int, tuple[list[bytes], list[bytes]]] = {
            partition: ([], []) for partition in set(partitions)
        }
        for partition, key, value in zip(partitions, keys, values, strict=True):
            its_keys, its_values = shares[partition]
            its_keys.append(key)
            its_values.append(value)
        batches = {
            partition: self._place(self._lanes[partition], now_ms, *share, headers)
            for partition, share in shares.items()
        }
        placed = [next(batches[partition]) for partition in partitions]
        if headers and self.trace is not None:
            for batch in placed:
                self.trace.put(batch)
        self._gathered += len(placed)
        self.bytes_in_flight += size
        return placed

    def _place(
        self,
        lane: Lane,
        timestamp_ms: int,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        headers: Headers,
    ) -> Iterator[Batch]:
        """Put records into the lane's batches; give the batch of each in turn."""
        placed: list[Batch] = []
        while (begin := len(placed)) < len(keys):
            batch = lane.waiting[-1] if lane.waiting else self._begin(lane)
            taken = batch.extend(timestamp_ms, keys[begin:], values[begin:], headers)
            placed += [batch] * taken
            if len(placed) < len(keys):
                self._begin(lane)
        return iter(placed)

    def _check(self, size: int) -> None:
        if self.bytes_in_flight + size > self._max_bytes:
            raise OverloadedError(f"max_bytes_in_flight ({self._max_bytes}) is reached")
        if self._closing:
            raise ShuttingDownError("the gateway is shutting down")
        if not self._link.connected:
            raise UnreachableError("there is no connection to Kafka")

    def _check_lane(self, lane: Lane) -> None:
        if lane.overdue:
            raise UnreachableError(
                f"Kafka has acknowledged nothing on partition {lane.partition} "
                f"for {self._timeout:g} s"
            )

    async def room(self) -> None:
        """Wait until some of the bytes in flight were settled."""
        await self._next_settled()

    def _next_settled(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(waiter)
        return waiter

    def _begin(self, lane: Lane) -> Batch:
        self._check_lane(lane)
        batch = Batch(lane.partition, self._link.create_batch())
        loop = asyncio.get_running_loop()
        batch.timer = loop.call_later(self._timeout, self._on_timeout, lane, batch)
        lane.waiting.append(batch)
        if lane.flying is None:
            self._work.set()
        return batch

    async def _deliver(self) -> None:
        while True:
            await self._work.wait()
            await self._gather()
            producer = await self._link.producer()
            self._work.clear()
            self._hand_over(producer)
            if not self._link.connected:
                self._work.set()  # for the next producer

    def _ended(self, courier: asyncio.Task[None]) -> None:
        """Take nothing more if delivering ended unasked: what is put must not wait in vain."""
        if courier.cancelling():
            return
        error = None if courier.cancelled() else courier.exception()
        log.error("outbox failed", topic=self._topic, exc_info=error)
        self._closing = self._failed = True
        for lane in self._lanes:
            for batch in list(lane.waiting):
                self._drop(lane, batch, UnreachableError("the gateway failed first"))

    async def _gather(self) -> None:
        """Wait a moment for company: a request to Kafka costs as much as tens of records.

        While one is under way aiokafka sends its broker no other, and records that come meanwhile
        can still join. After that, requests that arrive in one burst are let in together: as long
        as each turn of the event loop brings a record, more are about to come. Those of one that
        brings many do not wait: Kafka can append them while the others are taken in.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + GATHER_S
        while (left := until - loop.time()) > 0 and any(lane.flying for lane in self._lanes):
            await asyncio.wait([self._next_settled()], timeout=left)
        quiet = 0
        while quiet < QUIET_TURNS and self._gathered < COMPANY and loop.time() < until:
            before = self._gathered
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._gathered == before else 0

    def _hand_over(self, producer: Producer) -> None:
        batches = {}
        self._gathered = 0
        for lane in self._lanes:
            if lane.flying is None and lane.waiting:
                batch = lane.flying = lane.waiting.popleft()
                batches[lane.partition] = batch.take(producer), batch.count
        if batches:
            producer.send(batches, partial(self._on_landed, producer))

    def _on_landed(
        self, producer: Producer, partition: int, offset: int, failure: BaseException | None
    ) -> None:
        lane = self._lanes[partition]
        batch = lane.flying
        if batch is None or batch.producer is not producer:
            return  # given up when its producer was replaced
        if failure is not None:
            log.warning("batch failed", **self._fields(batch), error=repr(failure))
            self._land(lane, batch, error=_unknown("Kafka refused, or the connection was lost"))
            self._link.broke(producer, failure)
        elif offset == NO_OFFSET:
            self._land(lane, batch, error=_unknown("Kafka did not say where the record is"))
        else:
            self._land(lane, batch, base_offset=offset)

    def _on_timeout(self, lane: Lane, batch: Batch) -> None:
        if batch.producer is None:
            text = f"Kafka could not be reached for {self._timeout:g} s"
            self._drop(lane, batch, UnreachableError(text))
            return
        log.warning("batch overdue", **self._fields(batch), timeout_s=self._timeout)
        batch.settle(error=_unknown(f"Kafka did not acknowledge within {self._timeout:g} s"))
        stuck = TimeoutError(f"no acknowledgement {STUCK_AFTER_S:g} s after the timeout")
        loop = asyncio.get_running_loop()
        batch.timer = loop.call_later(STUCK_AFTER_S, self._link.broke, batch.producer, stuck)

    def _on_partitions(self, partitions: int) -> None:
        for number in range(len(self._lanes), partitions):
            self._lanes.append(Lane(number))
        self._partition = partitioner(partitions, self._cached_keys)
        self._work.set()

    def _on_retired(self, producer: Producer) -> None:
        for lane in self._lanes:
            if lane.flying is not None and lane.flying.producer is producer:
                self._land(lane, lane.flying, error=_unknown("the connection to Kafka was lost"))

    def _drop(self, lane: Lane, batch: Batch, error: DeliveryError) -> None:
        """Settle a batch that was never sent."""
        lane.waiting.remove(batch)
        self.deliveries.records_failed += batch.count
        batch.settle(error=error)
        self._release(batch)

    def _land(
        self, lane: Lane, batch: Batch, *, base_offset: int = -1, error: DeliveryError | None = None
    ) -> None:
        """Settle the batch under way and let the next one go."""
        if lane.flying is not batch:
            return  # given up when its producer was replaced
        lane.flying = None
        self._count(batch, failed=error is not None or batch.settled)
        batch.settle(base_offset, error)
        self._release(batch)
        if lane.waiting:
            self._work.set()

    def _count(self, batch: Batch, *, failed: bool) -> None:
        deliveries = self.deliveries
        if failed:
            deliveries.records_failed += batch.count
            return
        deliveries.records_acknowledged += batch.count
        deliveries.batch_records.observe(batch.count)
        deliveries.seconds.observe(time.monotonic() - batch.began)

    def _release(self, batch: Batch) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
        self.bytes_in_flight -= batch.bytes
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _fields(self, batch: Batch) -> dict[str, object]:
        return {"topic": self._topic, "partition": batch.partition, "records": batch.count}


def _unknown(cause: str) -> NotAcknowledgedError:
    return NotAcknowledgedError(
        f"{cause}: the transaction may or may not be in Kafka; "
        "it may be sent again with the same transaction_id"
    )
