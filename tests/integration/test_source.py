"""Reading partitions from their leaders, wherever these are."""

import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from wire import kafka
from wire.settings import TopicSettings
from wire.source import Limits, Source

DEADLINE_S = 40
HOUR_MS = 3_600_000
LIMITS = Limits(wait_ms=200, partition_bytes=16_384, total_bytes=65_536, deadline_s=20)


async def test_a_partition_that_gets_its_leader_late_is_read(kafka_settings: TopicSettings) -> None:
    """One without a leader is looked for while others are read, not when all metadata is old."""
    early = TopicPartition(kafka_settings.transactions_topic, 0)
    late = TopicPartition(f"{kafka_settings.transactions_topic}.late", 0)
    client = await kafka.start(
        lambda: kafka.RawClient(
            (early.topic, late.topic),
            bootstrap_servers=kafka_settings.kafka_broker_url,
            metadata_max_age_ms=HOUR_MS,
        )
    )
    source = Source(client, LIMITS)
    admin = await kafka.start(lambda: kafka.admin(kafka_settings))
    producer = await kafka.start(lambda: kafka.producer(kafka_settings))
    try:
        source.seek(early, 0)
        source.seek(late, 0)
        await source.read()
        await admin.create_topics([NewTopic(late.topic, 1, 1)])
        await producer.send_and_wait(late.topic, b"found", partition=0)
        async with asyncio.timeout(DEADLINE_S):
            while not (chunks := await source.read()):
                pass
        assert [(late, [b"found"])] == [
            (chunk.place, [record.value for record in chunk.records]) for chunk in chunks
        ]
    finally:
        await source.stop()
        for each in (client, admin, producer):
            await kafka.close(each)
