"""Making the topics."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from structlog.testing import capture_logs

from tests.cluster import Cluster
from tests.conftest import topic_settings
from wire import topics
from wire.errors import TopicsError


async def test_topics_that_are_made_can_be_used_at_once(kafka_address: str) -> None:
    """Each broker knows that it leads: none refuses a request that nobody tries again."""
    asker = Consumer({"bootstrap.servers": kafka_address, "group.id": "tests"})
    for _ in range(5):
        settings = topic_settings(kafka_address)
        counts = await topics.ensure(settings)
        assert counts == dict.fromkeys(topics.names(settings), 4)
        for name in counts:
            for partition in range(4):
                place = TopicPartition(name, partition)
                assert asker.get_watermark_offsets(place, timeout=20) == (0, 0)
    asker.close()


@pytest.mark.parametrize(("partitions", "told"), [(4, []), (8, [(4, 8)])])
async def test_partitions_that_are_asked_for_in_vain_are_told(
    kafka_address: str, partitions: int, told: list[tuple[int, int]]
) -> None:
    """Topics that are there stay as they are: twice the detectors would find nothing to do."""
    settings = topic_settings(kafka_address)
    await topics.ensure(settings)
    asked = settings.model_copy(update={"partitions": partitions})
    with capture_logs() as logged:
        assert set((await topics.ensure(asked)).values()) == {4}
    warned = [line for line in logged if line["log_level"] == "warning"]
    assert [(line["found"], line["wanted"]) for line in warned] == told


A_YEAR_H = 365 * 24
"""How long the embedded broker keeps the offsets of a group without members."""


@pytest.mark.parametrize(("hours", "warned"), [(A_YEAR_H - 1, 0), (A_YEAR_H, 1)])
async def test_offsets_that_go_before_the_records_are_warned_of(
    kafka_address: str, hours: int, warned: int
) -> None:
    """A detector that comes back without its offsets would decide again on what is still there."""
    settings = topic_settings(kafka_address, retention_hours=hours)
    with capture_logs() as logged:
        await topics.ensure(settings)
    found = [line for line in logged if line["log_level"] == "warning"]
    assert [line["offsets_retention_minutes"] for line in found] == [A_YEAR_H * 60] * warned


async def test_no_topic_is_made_that_would_take_no_record(kafka_address: str) -> None:
    """Kafka makes one that asks for more replicas than it has."""
    settings = topic_settings(kafka_address, replication=1, min_insync_replicas=2)
    with pytest.raises(TopicsError, match="MIN_INSYNC_REPLICAS=2"):
        await topics.ensure(settings)


async def test_brokers_that_can_t_be_reached_by_their_own_names_are_named(
    start_kafka: Callable[..., Cluster],
) -> None:
    """Where they are advertised as what means nothing here, the address that was set is no help."""
    protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT"
    cluster = start_kafka(extra={"listener.security.protocol.map": protocols})
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    cluster.listen(f"PROXIED://{address}", "PROXIED://kafka.invalid:9")
    await cluster.start()
    settings = topic_settings(address)
    with pytest.raises(TopicsError, match=r"kafka\.invalid:9"):
        await topics.ensure(settings)
    with capture_logs() as logged, pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await topics.wait(settings, *topics.names(settings))
    assert [each["brokers"] for each in logged if "brokers" in each] == [["kafka.invalid:9"]]
