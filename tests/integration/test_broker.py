"""The embedded Kafka, run for real."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition

from compose import jars, jvm
from tests.cluster import Cluster
from wire import kafka, topics
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


async def test_a_broker_goes_on_with_its_data(
    start_kafka: Callable[..., Cluster], tmp_path: Path
) -> None:
    """After SIGKILL and a start on the same data, acknowledged records are there.

    Stopped and started elsewhere, on other ports, it is the same cluster with the same records.
    """
    first = start_kafka()
    await first.start()
    settings = _settings(first.address)
    await topics.ensure(settings)
    topic = settings.transactions_topic
    await _send(settings, b"one")
    first.kill()
    await first.start()
    await _send(settings, b"two")
    assert await _read(settings, topic, 2) == [b"one", b"two"]

    first.stop()
    shutil.move(tmp_path / "kafka-0", tmp_path / "kafka-1")
    second = start_kafka()
    await second.start()
    assert second.address != first.address
    settings = settings.model_copy(update={"kafka_broker_url": second.address})
    await _send(settings, b"three")
    assert await _read(settings, topic, 3) == [b"one", b"two", b"three"]


async def test_it_starts_in_any_directory_and_environment(
    start_kafka: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Zoë's home too, where the locale knows no ë and other JVMs have their own options."""
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:+UseG1GC")
    monkeypatch.setenv("_JAVA_OPTIONS", "-XX:+UseG1GC")
    cluster = start_kafka("Zoë's data 数据 😀")
    await cluster.start()
    assert (cluster.nodes[0].log_dir / "__cluster_metadata-0").is_dir()


def test_a_spoilt_aot_cache_prevents_no_start(
    kafka_installation: jars.Installation, tmp_path: Path
) -> None:
    """The JVM starts without a cache that it can't use, and runs Kafka's own main class."""
    spoilt = tmp_path / "spoilt.aot"
    spoilt.write_bytes(b"no cache")
    flags = (f"-XX:AOTCache={spoilt}",)
    argv = jvm.command(kafka_installation, "kafka.Kafka", "--version", flags=flags)
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{jars.KAFKA_VERSION}\n", "")


def _settings(address: str) -> TopicSettings:
    return TopicSettings(kafka_broker_url=address, partitions=2)


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
