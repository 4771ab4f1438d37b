"""The writer of one partition: a batch's verdicts and dead letters and its offset, all or nothing.

Its transactional id is GROUP.TOPIC.PARTITION. Starting it fences whoever had that id before and
settles what that one left open; so only after the start does the committed offset say where to
go on. (The ordinary way, offsets committed with the group's generation, is closed to aiokafka:
its TxnOffsetCommit carries none, aiokafka #844.)
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from detector.batch import Entry, Outcome
from detector.deadline import deadline
from detector.errors import AbortedError, FencedError, StuckError
from detector.producer import TransactionalProducer
from detector.settings import DetectorSettings
from wire import kafka

log = structlog.get_logger(__name__)


class Writer:
    """Writes each batch in one transaction."""

    def __init__(self, settings: DetectorSettings, partition: TopicPartition) -> None:
        self._settings = settings
        self._partition = partition
        self._limit_s = settings.detector_deadline_seconds
        group = settings.detector_group
        self._producer: TransactionalProducer = kafka.producer(
            settings,
            kind=TransactionalProducer,
            transactional_id=f"{group}.{partition.topic}.{partition.partition}",
            transaction_timeout_ms=settings.detector_transaction_timeout_ms,
            max_batch_size=settings.detector_batch_bytes,
        )

    async def start(self) -> None:
        """Fence the former owner and settle its transaction."""
        async with deadline(self._limit_s, "fencing the former owner"):
            await self._producer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await kafka.close(self._producer)

    async def write(self, outcome: Outcome, next_offset: int, now_ms: int) -> None:
        """Write all of a batch and the offset after it.

        Raises:
            FencedError: another worker has the partition.
            AbortedError: nothing was written; the batch can be tried again.
            StuckError: it is not known what was written; only a new start can tell.
        """
        try:
            async with deadline(self._limit_s, "a transaction"):
                await self._transaction(outcome, next_offset, now_ms)
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise FencedError(f"fenced: {error!r}") from error
        except KafkaError as error:
            if self._producer.broken:
                raise StuckError(f"the producer failed for good: {error!r}") from error
            await self._abort()
            raise AbortedError(f"rolled back: {error!r}") from error

    async def _transaction(self, outcome: Outcome, next_offset: int, now_ms: int) -> None:
        producer, settings = self._producer, self._settings
        await producer.begin_transaction()
        written = [
            *await self._send(settings.legit_topic, outcome.legit, now_ms),
            *await self._send(settings.fraud_topic, outcome.fraud, now_ms),
            *await self._send(settings.dead_letter_topic, outcome.dead, now_ms),
        ]
        # A commit alone would pass over a batch that failed. And the offset waits for the batches:
        # of two requests that a broker has to verify for one producer at the same time (KIP-890),
        # it turns the first one away.
        await asyncio.gather(*written)
        await producer.send_offsets_to_transaction(
            {self._partition: OffsetAndMetadata(next_offset, "")}, settings.detector_group
        )
        await producer.commit_transaction()

    async def _send(
        self, topic: str, entries: Iterable[Entry], now_ms: int
    ) -> list[asyncio.Future[Any]]:
        producer, partition = self._producer, self._partition.partition
        written = []
        batch = producer.create_batch()
        append = batch.append
        for key, value, headers in entries:
            if append(timestamp=now_ms, key=key, value=value, headers=headers) is None:  # full
                written.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                append = batch.append
                append(timestamp=now_ms, key=key, value=value, headers=headers)
        if batch.record_count():
            written.append(await producer.send_batch(batch, topic, partition=partition))
        return written

    async def _abort(self) -> None:
        try:
            async with deadline(self._limit_s, "rolling back"):
                await self._producer.abort_transaction()
        except (ProducerFenced, InvalidProducerEpoch) as error:
            raise FencedError(f"fenced: {error!r}") from error
        except KafkaError as error:
            raise StuckError(f"can't roll back: {error!r}") from error
