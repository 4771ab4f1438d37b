"""The gateway's producer, on a real Kafka."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Message

from api.ingest.producer import Producer
from wire import kafka
from wire.settings import TopicSettings

PARTITION = 1
Read = Callable[[TopicSettings, str], list[Message]]


async def append(producer: Producer, *values: bytes) -> tuple[int, BaseException | None]:
    """Append records in one batch; give where it landed, or why it did not."""
    batch: Any = producer.create_batch()
    for number, value in enumerate(values):
        batch.append(number, time.time_ns() // 1_000_000, b"key", value, [])
    landed: asyncio.Future[tuple[int, BaseException | None]] = asyncio.Future()
    producer.send(
        {PARTITION: (batch, len(values))},
        lambda _, offset, failure: landed.set_result((offset, failure)),
    )
    return await asyncio.wait_for(landed, 20)


async def started(settings: TopicSettings) -> Producer:
    """Make a producer that is connected."""

    def make() -> Producer:
        client = kafka.client(settings, [settings.transactions_topic])
        return Producer(client, settings.transactions_topic, batch_bytes=100_000, timeout_ms=10_000)

    return await kafka.start(make)


async def test_what_is_sent_again_is_there_once(
    kafka_settings: TopicSettings, read_committed: Read
) -> None:
    """Kafka knows a batch by its sequence numbers, and answers where it has it."""
    producer = await started(kafka_settings)
    try:
        assert await append(producer, b"1", b"2") == (0, None)
        assert await append(producer, b"3") == (2, None)
        producer._sequences[PARTITION] = 2  # as if that answer had not come
        assert await append(producer, b"3") == (2, None)
        assert await append(producer, b"4") == (3, None)
    finally:
        await kafka.close(producer)
    records = read_committed(kafka_settings, kafka_settings.transactions_topic)
    assert [record.value() for record in records] == [b"1", b"2", b"3", b"4"]


async def test_a_gap_is_refused_for_good(
    kafka_settings: TopicSettings, read_committed: Read
) -> None:
    """A batch that was lost before this one is told, not passed over."""
    producer = await started(kafka_settings)
    try:
        assert await append(producer, b"1") == (0, None)
        producer._sequences[PARTITION] = 5
        offset, failure = await append(producer, b"2")
        assert offset == -1
        assert failure is not None
        assert "sequence" in repr(failure).lower()
    finally:
        await kafka.close(producer)
    records = read_committed(kafka_settings, kafka_settings.transactions_topic)
    assert [record.value() for record in records] == [b"1"]
