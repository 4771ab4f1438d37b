"""The link to Kafka: one idempotent producer, connected in the background, replaced when it breaks.

A producer breaks for good when one of its batches fails: the batch's sequence numbers are spent,
and the broker refuses whatever follows them as out of order. Nothing that was handed to the old
producer is ever handed to the new one, so a replacement can't write a record twice.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from aiokafka.cluster import ClusterMetadata

from api.errors import UnreachableError
from api.ingest.producer import Producer
from api.settings import ApiSettings
from wire import access, kafka, topics
from wire.errors import AccessError

log = structlog.get_logger(__name__)
REFUSED_PAUSE_S: Final = 2.0
"""Pause before Kafka is asked again that did not let us in: the rights may have been given."""


class Link:
    """Keeps a producer connected; tells how many partitions the topic has, whenever that changes.

    Args:
        settings: where Kafka is; the topic.
        on_partitions: called with the partition count, at first and after every change.
        on_retired: called once nothing more can come of a replaced producer.
    """

    def __init__(
        self,
        settings: ApiSettings,
        on_partitions: Callable[[int], None],
        on_retired: Callable[[Producer], None],
    ) -> None:
        self._settings = settings
        self._topic = settings.transactions_topic
        self._on_partitions = on_partitions
        self._on_retired = on_retired
        self._producer: Producer | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._retirements: set[asyncio.Task[None]] = set()
        self._partitions = 0
        self.failed = False
        """Whether it has ended unasked: nothing connects anew in this process."""

    @property
    def connected(self) -> bool:
        """Whether there is a producer to hand records to."""
        return self._producer is not None

    def start(self) -> None:
        """Begin to connect; tries until it is stopped."""
        self._keeper = asyncio.create_task(self._keep(), name="kafka link")
        self._keeper.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._producer is not None:
            self._retire(self._producer)
        if self._retirements:
            await asyncio.wait(self._retirements)

    async def producer(self) -> Producer:
        """Give the producer, once there is one."""
        while self._producer is None:
            await self._connected.wait()
        return self._producer

    def create_batch(self) -> Any:
        """Make an empty record batch, as aiokafka builds it; there must be a producer."""
        if self._producer is None:
            raise UnreachableError("there is no connection to Kafka")
        return self._producer.create_batch()

    def broke(self, producer: Producer, error: BaseException) -> None:
        """Say that a producer failed for good; it is replaced, unless it was already."""
        if producer is self._producer:
            cause = access.refused(error, self._settings, writes=[self._topic]) or repr(error)
            log.error("kafka producer failed", topic=self._topic, error=str(cause))
            self._broken.set()
            self._connected.clear()
            self._producer = None
            self._retire(producer)

    async def _keep(self) -> None:
        while True:
            self._broken.clear()
            try:
                await self._connect()
            except AccessError as error:
                log.error("kafka refuses", topic=self._topic, error=str(error))
                await asyncio.sleep(REFUSED_PAUSE_S)
            except Exception:
                # Whatever it is: without a link every POST is refused for good.
                log.exception("kafka link failed", topic=self._topic)
                await asyncio.sleep(REFUSED_PAUSE_S)
            else:
                await self._broken.wait()

    async def _connect(self) -> None:
        await topics.wait(self._settings, self._topic)
        producer = await kafka.start(self._make, settings=self._settings)
        producer.client.cluster.add_listener(self._count_partitions)
        self._count_partitions(producer.client.cluster)
        self._producer = producer
        self._connected.set()
        log.info("connected to kafka", topic=self._topic, partitions=self._partitions)

    def _ended(self, keeper: asyncio.Task[None]) -> None:
        """Say so if it ended unasked, such as by a cancellation from within aiokafka."""
        if not keeper.cancelling():
            error = None if keeper.cancelled() else keeper.exception()
            log.error("kafka link ended", topic=self._topic, exc_info=error)
            self.failed = True

    def _make(self) -> Producer:
        settings = self._settings
        # Half, so that a broker that hangs is asked again within the delivery timeout.
        timeout_ms = max(100, int(settings.delivery_timeout * 500))
        client = kafka.client(settings, [self._topic], request_timeout_ms=timeout_ms)
        batch_bytes = settings.produce_batch_bytes
        return Producer(client, self._topic, batch_bytes=batch_bytes, timeout_ms=timeout_ms)

    def _count_partitions(self, cluster: ClusterMetadata) -> None:
        partitions = cluster.partitions_for_topic(self._topic)
        # None while the topic's metadata is being fetched anew.
        if partitions and len(partitions) != self._partitions:
            self._partitions = len(partitions)
            self._on_partitions(self._partitions)

    def _retire(self, producer: Producer) -> None:
        async def retire() -> None:
            await kafka.close(producer)
            self._on_retired(producer)

        task = asyncio.create_task(retire(), name="retire kafka producer")
        self._retirements.add(task)
        task.add_done_callback(self._retirements.discard)
