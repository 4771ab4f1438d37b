"""Reading partitions from their leaders, wherever these are."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest
from confluent_kafka import Producer

from wire import kafka
from wire.errors import RecordsGoneError
from wire.settings import TopicSettings
from wire.source import Limits, Source

DEADLINE_S = 40
HOUR_MS = 3_600_000
LIMITS = Limits(wait_ms=200, partition_bytes=16_384, total_bytes=65_536, deadline_s=20)


@pytest.fixture
async def client(kafka_settings: TopicSettings) -> AsyncIterator[kafka.RawClient]:
    """A client that knows the transactions topic."""
    topic = kafka_settings.transactions_topic
    client = await kafka.start(lambda: kafka.client(kafka_settings, [topic]))
    yield client
    await kafka.close(client)


@pytest.fixture
async def producer(kafka_settings: TopicSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer."""
    producer = await kafka.start(lambda: kafka.producer(kafka_settings))
    yield producer
    await kafka.close(producer)


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


async def test_a_start_that_is_broken_off_leaves_no_connection_open(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a stream's client that leaves while its history is being looked for."""
    asked: list[AIOKafkaConnection] = []
    send = AIOKafkaConnection.send

    def break_off(connection: AIOKafkaConnection, request: object, **options: object) -> object:
        answer = send(connection, request, **options)
        if isinstance(request, MetadataRequest):
            asked.append(connection)
            starting.cancel()
        return answer

    monkeypatch.setattr(AIOKafkaConnection, "send", break_off)
    starting = asyncio.create_task(kafka.start(lambda: kafka.client(kafka_settings, ())))
    await asyncio.wait([starting])
    (connection,) = asked
    async with asyncio.timeout(DEADLINE_S):
        await connection._closed_fut


async def test_what_is_gone_holds_up_no_other(
    kafka_settings: TopicSettings, client: kafka.RawClient, producer: AIOKafkaProducer
) -> None:
    """It is told which partition and offset, and nothing that came beside it is passed over."""
    topic = kafka_settings.transactions_topic
    for partition in (0, 1):
        await producer.send_and_wait(topic, b"%d" % partition, partition=partition)
    source = Source(client, LIMITS)
    source.seek(TopicPartition(topic, 0), 99)
    source.seek(TopicPartition(topic, 1), 0)
    with pytest.raises(RecordsGoneError) as caught:
        await source.read()
    assert (caught.value.place, caught.value.offset) == (TopicPartition(topic, 0), 99)
    source.seek(caught.value.place, 0)
    found = {chunk.place.partition: chunk.records[0].value for chunk in await source.read()}
    await source.stop()
    assert found == {0: b"0", 1: b"1"}


async def test_no_partition_waits_for_the_back_log_of_others(
    kafka_settings: TopicSettings, client: kafka.RawClient, producer: AIOKafkaProducer
) -> None:
    """Where one answer has room for the records of one partition, each has its turn."""
    topic = kafka_settings.transactions_topic
    for _ in range(2):
        for partition in range(4):
            await producer.send_and_wait(topic, bytes(12_000), partition=partition)
    source = Source(client, LIMITS._replace(total_bytes=LIMITS.partition_bytes))
    for partition in range(4):
        source.seek(TopicPartition(topic, partition), 0)
    chunks = [await source.read() for _ in range(8)]
    await source.stop()
    turns = [chunk.place.partition for several in chunks for chunk in several]
    assert (sorted(turns[:4]), sorted(turns[4:])) == ([0, 1, 2, 3], [0, 1, 2, 3])
    assert [source.standings[TopicPartition(topic, p)].lag for p in range(4)] == [0, 0, 0, 0]


async def test_what_two_brokers_answer_at_once_comes_once(
    kafka_settings: TopicSettings, client: kafka.RawClient
) -> None:
    """While a partition changes its leader, the last one and the next may both be asked."""
    place = TopicPartition(kafka_settings.transactions_topic, 0)
    source = Source(client, LIMITS._replace(wait_ms=10_000))
    source.seek(place, 0)
    await begun(source)
    brokers, partitions = client.cluster._brokers, client.cluster._partitions[place.topic]
    [last] = brokers.values()
    brokers[last.nodeId + 1] = last._replace(nodeId=last.nodeId + 1)  # the same one once more
    partitions[0] = partitions[0]._replace(leader=last.nodeId + 1)
    await begun(source)
    producer = Producer({"bootstrap.servers": kafka_settings.kafka_broker_url, "acks": "all"})
    for partition in (0, 1):
        # The loop stands still meanwhile, so that it finds both answers when it goes on.
        producer.produce(place.topic, b"once", partition=partition)
        assert producer.flush(DEADLINE_S) == 0
    chunks = await source.read()
    await source.stop()
    assert [record.value for chunk in chunks for record in chunk.records] == [b"once"]


async def begun(source: Source) -> None:
    """Have it ask all brokers that lead something, and leave before they answer."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await source.read()
