"""What every test can have: a real Kafka for the session, topics of its own, or an own broker."""

import asyncio
import contextlib
import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from compose import aot, jars
from tests import session_kafka
from tests.cluster import Cluster
from wire import topics
from wire.errors import TopicsError
from wire.settings import TopicSettings

READ_TIMEOUT_S = 60

# What is set for a container of programs in Python would hide what becomes of buffered output.
os.environ.pop("PYTHONUNBUFFERED", None)

# How fast a busy machine comes up with examples is no property of the code.
hypothesis.settings.register_profile(
    "fraudstream", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("fraudstream")


def pytest_collection_finish() -> None:
    """Have no collection of garbage look through what is loaded: a third of a second each time."""
    gc.freeze()


@pytest.fixture(scope="session")
def kafka_installation() -> jars.Installation:
    """Kafka's jars, from the user's cache; downloaded on the first run."""
    installation = jars.install()
    aot.ensure(installation)
    return installation


@pytest.fixture(scope="session")
def kafka_address(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_installation: jars.Installation,  # noqa: ARG001 - it is there before the broker starts
    worker_id: str,
) -> str:
    """One real broker for the whole run, however many processes share it: its address."""
    alone = worker_id == "master"
    base = tmp_path_factory.getbasetemp()
    return session_kafka.address(
        (base if alone else base.parent) / "kafka", run=os.getpid() if alone else os.getppid()
    )


@pytest.fixture
async def kafka_settings(kafka_address: str) -> TopicSettings:
    """Settings of this test alone: its four topics are made, with four partitions each."""
    settings = topic_settings(kafka_address)
    await topics.ensure(settings)
    return settings


@pytest.fixture
def start_kafka(
    tmp_path: Path, kafka_installation: jars.Installation
) -> Iterator[Callable[..., Cluster]]:
    """Make embedded clusters for this test alone: `start_kafka(flags=...)`; not yet started."""
    made: list[Cluster] = []

    def make(name: str | None = None, **options: Any) -> Cluster:
        directory = tmp_path / (name or f"kafka-{len(made)}")
        made.append(Cluster(directory, kafka_installation, **options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.kill()


@pytest.fixture(scope="module")
def broker_of_a_module(
    tmp_path_factory: pytest.TempPathFactory, kafka_installation: jars.Installation
) -> Iterator[Cluster]:
    """A single broker for those tests of a module that stop it; not yet started."""
    cluster = Cluster(tmp_path_factory.mktemp("own") / "kafka", kafka_installation)
    yield cluster
    cluster.kill()


@pytest.fixture
async def own_broker(broker_of_a_module: Cluster) -> Cluster:
    """A running single broker that this test may halt, stop, kill and start again.

    A module's tests have it one after another, each on topics of its own. However one leaves it,
    the next finds it whole.
    """
    await broker_of_a_module.restore()
    return broker_of_a_module


@pytest.fixture
def broker_that_is_down(broker_of_a_module: Cluster) -> Cluster:
    """The module's single broker, not running, and on fresh data where the test is the first.

    So those that begin without a broker come first in their modules: they save a start.
    """
    broker_of_a_module.kill()
    return broker_of_a_module


@pytest.fixture
async def own_settings(own_broker: Cluster) -> TopicSettings:
    """Settings for the test's own broker, with its four topics made."""
    settings = topic_settings(own_broker.address)
    async with asyncio.timeout(READ_TIMEOUT_S):
        while True:
            # One that hung answers, and is then fenced for a moment: it has missed its session.
            with contextlib.suppress(TopicsError):
                await topics.ensure(settings)
                return settings


@pytest.fixture
def read_committed() -> Callable[[TopicSettings, str], list[Message]]:
    """Read a whole topic as any read_committed client sees it, with librdkafka."""
    return read_topic


def read_topic(settings: TopicSettings, topic: str) -> list[Message]:
    """Give all committed records of a topic, each partition's in order.

    To the end of all that was written: what a transaction was answered for that its broker has yet
    to mark as committed is waited for.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_broker_url,
            "group.id": "tests",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
            "error_cb": lambda _error: None,  # a broker that a test has stopped comes back
        }
    )
    ends = written(settings, topic)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
    ended: set[int] = set()
    found: list[Message] = []
    deadline = time.monotonic() + READ_TIMEOUT_S
    while len(ended) < len(ends):
        assert time.monotonic() < deadline, f"{topic}: no end seen of {ends.keys() - ended}"
        for message in consumer.consume(1000, 0.1):
            error = message.error()
            if error is None:
                found.append(message)
            elif (
                error.code() == KafkaError._PARTITION_EOF
                and message.offset() >= ends[message.partition()]
            ):
                ended.add(message.partition())
    consumer.close()
    return sorted(found, key=lambda m: (m.partition(), m.offset()))


def written(settings: TopicSettings, topic: str) -> dict[int, int]:
    """Give each partition's end, open transactions included."""
    asker = Consumer(
        {
            "bootstrap.servers": settings.kafka_broker_url,
            "group.id": "tests",
            "isolation.level": "read_uncommitted",
            "log_level": 0,
            "error_cb": lambda _error: None,
        }
    )
    deadline = time.monotonic() + READ_TIMEOUT_S
    while True:
        try:
            partitions = asker.list_topics(topic, timeout=20).topics[topic].partitions
            places = [TopicPartition(topic, partition) for partition in partitions]
            ends = {p.partition: asker.get_watermark_offsets(p, timeout=20)[1] for p in places}
        except KafkaException:
            assert time.monotonic() < deadline
        else:
            asker.close()
            return ends


def make_topics(settings: TopicSettings) -> None:
    """Make the topics of some settings, away from the event loop that pytest-asyncio keeps."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(topics.ensure(settings))).result()


def topic_settings(address: str, **given: Any) -> TopicSettings:
    """Give settings with topic names that no other test has."""
    name = uuid.uuid4().hex[:12]
    return TopicSettings(
        kafka_broker_url=address,
        transactions_topic=f"{name}.transactions",
        legit_topic=f"{name}.legit",
        fraud_topic=f"{name}.fraud",
        dead_letter_topic=f"{name}.dead-letter",
        partitions=4,
        **given,
    )
