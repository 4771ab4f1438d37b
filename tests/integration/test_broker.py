"""The embedded Kafka, run for real."""

from typing import Any

from aiokafka.structs import TopicPartition

from wire import kafka
from wire.settings import TopicSettings


async def test_a_record_comes_back(kafka_settings: TopicSettings) -> None:
    """What a producer sent with acks=all, a consumer reads."""
    topic = kafka_settings.transactions_topic
    await _send(kafka_settings, b"one")
    assert await _read(kafka_settings, topic, 1) == [b"one"]


async def test_an_aborted_transaction_is_never_read(kafka_settings: TopicSettings) -> None:
    """A read_committed consumer sees what was committed and only that."""
    topic = kafka_settings.transactions_topic
    producer = kafka.producer(kafka_settings, transactional_id=topic)
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed", partition=0)
    finally:
        await kafka.close(producer)
    assert await _read(kafka_settings, topic, 1) == [b"committed"]


async def test_a_killed_broker_goes_on_with_its_data(
    own_broker: Any, own_settings: TopicSettings
) -> None:
    """After SIGKILL and a start on the same data, acknowledged records are there."""
    await _send(own_settings, b"before")
    own_broker.kill()
    await own_broker.start()
    await _send(own_settings, b"after")
    assert await _read(own_settings, own_settings.transactions_topic, 2) == [b"before", b"after"]


async def _send(settings: TopicSettings, value: bytes) -> None:
    producer = await kafka.start(lambda: kafka.producer(settings))
    try:
        await producer.send_and_wait(settings.transactions_topic, value, partition=0)
    finally:
        await kafka.close(producer)


async def _read(settings: TopicSettings, topic: str, count: int) -> list[bytes]:
    consumer = await kafka.start(lambda: kafka.consumer(settings))
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await kafka.close(consumer)
