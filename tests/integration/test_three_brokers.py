"""Three brokers: what goes on without one of them, and after all of them."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from aiokafka import TopicPartition
from confluent_kafka import Message

from compose import jars
from tests.cluster import Cluster
from tests.conftest import topic_settings
from tests.following import Pages, numbered, write
from wire import kafka, topics
from wire.settings import TopicSettings


@pytest.fixture(scope="module")
def three(
    tmp_path_factory: pytest.TempPathFactory, kafka_installation: jars.Installation
) -> Iterator[Cluster]:
    """Three brokers for these tests, one after another; not yet started."""
    cluster = Cluster(tmp_path_factory.mktemp("three") / "kafka", kafka_installation, brokers=3)
    yield cluster
    cluster.kill()


@pytest.fixture
async def settings(three: Cluster) -> TopicSettings:
    """Settings of this test alone, with its topics made; all three are there."""
    await three.restore()
    made = topic_settings(three.address, replication=3, min_insync_replicas=2)
    await topics.ensure(made)
    return made


async def test_they_outlive_one_and_a_restart(
    three: Cluster,
    settings: TopicSettings,
    read_committed: Callable[[TopicSettings, str], list[Message]],
) -> None:
    """With one of three killed, acks=all goes on; after all have stopped, nothing is lost.

    Not even with the killed one among them again, which has missed the last record.
    """
    await asyncio.to_thread(write, settings, [b"three"])
    three.kill(2)
    await asyncio.to_thread(write, settings, [b"two"])
    three.stop()
    await three.start()
    found = await asyncio.to_thread(read_committed, settings, settings.fraud_topic)
    assert [message.value() for message in found] == [b"three", b"two"]


async def test_a_partition_is_followed_to_its_next_leader(
    three: Cluster, settings: TopicSettings
) -> None:
    """With the leader killed and back again, each record comes once, in order."""
    pages = Pages(settings)
    async with pages.following():
        await asyncio.to_thread(write, settings, numbered(0, 10))
        await pages.until_count(10)
        first = await leader(settings)
        three.kill(first)
        await asyncio.to_thread(write, settings, numbered(10, 20))
        await pages.until_count(20)
        assert await leader(settings) != first
        assert (await pages.feed.ends())[0] == 20
        await three.start(first)
        await asyncio.to_thread(write, settings, numbered(20, 30))
        await pages.until_count(30)
    assert pages.values == {0: numbered(0, 30)}
    assert pages.gone == []


async def leader(settings: TopicSettings) -> int:
    """Ask who leads partition 0."""
    client = await kafka.start(lambda: kafka.client(settings, [settings.fraud_topic]))
    found: int = client.cluster.leader_for_partition(TopicPartition(settings.fraud_topic, 0))
    await kafka.close(client)
    return found
