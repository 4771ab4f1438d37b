"""The producer: appends record batches with an idempotent producer's sequence numbers.

The outbox gathers records and has one batch under way per partition, so there is nothing left to
gather, to hold back or to order here: a batch goes out as it is handed over, and again, just the
same, for as long as what hinders it will pass. A broker that has it already knows by its sequence
number, and answers where it is. (aiokafka's own producer does all this in a background task, with
one request at a time to each broker: half as much again in latency, twice in processor time.)
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from wire.kafka import RawClient
from wire.produce import MAX_SEQUENCE, Produce

RETRY_PAUSE_S: Final = 0.05
"""Pause before a batch is sent again."""
METADATA_PATIENCE_S: Final = 1.0
"""How long a batch waits to hear who leads its partition now, before it is sent again anyhow."""
NO_OFFSET: Final = -1
"""Where a batch is that the broker has had before and no longer remembers well."""
_MAGIC: Final = 2
_DUPLICATE: Final = 46
"""DUPLICATE_SEQUENCE_NUMBER"""

Landed = Callable[[int, int, BaseException | None], None]
"""Learns partition and base offset of a batch, or why it failed for good."""


class Producer:
    """Appends to the partitions of one topic, acks=all, each batch once."""

    def __init__(self, client: RawClient, topic: str, *, batch_bytes: int, timeout_ms: int) -> None:
        """Make it.

        Args:
            client: not yet started.
            topic: where to append.
            batch_bytes: the largest batch.
            timeout_ms: how long a broker may wait for the in-sync replicas.
        """
        self.client = client
        self._topic = topic
        self._batch_bytes = batch_bytes
        self._timeout_ms = timeout_ms
        self._id = self._epoch = -1
        self._sequences: dict[int, int] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect, and get a producer id.

        Raises:
            KafkaError: no broker answers, or the topic is not there.
        """
        await self.client.start()
        if not self.partitions:
            raise UnknownTopicOrPartitionError(self._topic)
        request = InitProducerIdRequest(None, -1)
        answer = await self.client.send(self.client.get_random_node(), request)
        if answer.error_code:
            raise for_code(answer.error_code)(self._topic)
        self._id, self._epoch = answer.producer_id, answer.producer_epoch

    async def stop(self) -> None:
        """Disconnect; what is under way may or may not be appended, and nobody is told."""
        sending, self._sending = self._sending, set()
        for task in sending:
            task.cancel()
        if sending:
            await asyncio.wait(sending)
        await self.client.close()

    @property
    def partitions(self) -> set[int]:
        """The topic's partitions; none while that is being asked anew."""
        return self.client.cluster.partitions_for_topic(self._topic) or set()

    def create_batch(self) -> Any:
        """Make an empty record batch (aiokafka's DefaultRecordBatchBuilder)."""
        return DefaultRecordBatchBuilder(
            _MAGIC,
            compression_type=0,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=0,
            batch_size=self._batch_bytes,
        )

    def send(self, batches: Mapping[int, tuple[Any, int]], landed: Landed) -> None:
        """Append a batch to each of some partitions.

        Args:
            batches: by partition: the batch and how many records it has. The partition's last one
                must have landed.
            landed: called for each of them, unless the producer is stopped before.
        """
        built: dict[int, bytearray] = {}
        for number, (builder, count) in batches.items():
            sequence = self._sequences.get(number, 0)
            self._sequences[number] = (sequence + count) & MAX_SEQUENCE
            builder.set_producer_state(self._id, self._epoch, sequence)
            built[number] = builder.build()
        self._begin(built, landed)

    def _begin(self, built: Mapping[int, bytearray], landed: Landed) -> None:
        by_leader: dict[int, dict[int, bytearray]] = {}
        cluster = self.client.cluster
        for number, records in built.items():
            leader = cluster.leader_for_partition(TopicPartition(self._topic, number))
            # An unknown leader's partition goes to any broker, which says who leads it.
            node = self.client.get_random_node() if leader in (None, -1) else leader
            by_leader.setdefault(node, {})[number] = records
        for node, unsent in by_leader.items():
            task = asyncio.create_task(self._send(node, unsent, landed), name="produce")
            self._sending.add(task)
            task.add_done_callback(partial(self._ended, unsent, landed))

    async def _send(self, node: int, unsent: dict[int, bytearray], landed: Landed) -> None:
        """Send batches to their leader; what did not land is begun again."""
        request = Produce(self._timeout_ms, {self._topic: list(unsent.items())})
        try:
            answer = await self.client.send(node, request)
        except KafkaError as error:
            if not error.retriable:
                raise
        else:
            for _, entries in answer.topics:
                for number, code, offset, *_ in entries:
                    if code and code != _DUPLICATE:
                        if for_code(code).retriable:
                            continue
                        del unsent[number]
                        landed(number, NO_OFFSET, for_code(code)(self._topic))
                    else:
                        del unsent[number]
                        landed(number, NO_OFFSET if code else offset, None)
        if unsent:
            await asyncio.sleep(RETRY_PAUSE_S)
            await asyncio.wait([self.client.force_metadata_update()], timeout=METADATA_PATIENCE_S)
            self._begin(dict(unsent), landed)
            unsent.clear()

    def _ended(
        self, unsent: dict[int, bytearray], landed: Landed, task: asyncio.Task[None]
    ) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            for number in unsent:
                landed(number, NO_OFFSET, failure)
