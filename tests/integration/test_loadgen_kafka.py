"""The load generator on a real Kafka: driving it directly, and through the real gateway."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from loadgen.service import watch
from loadgen.settings import LoadgenSettings
from loadgen.share import Share
from loadgen.summary import Summary
from loadgen.target_kafka import KafkaTarget
from loadgen.verify.audit import Findings
from tests.auditing import audited, shared, write
from tests.parts import Parts
from wire.settings import TopicSettings


@pytest.fixture
def detecting(parts: Parts) -> TopicSettings:
    """The real detector, at work on this test's topics."""
    parts.start("detector")
    return parts.settings


async def run(
    settings: TopicSettings, meanwhile: Callable[[], None] = lambda: None, **given: Any
) -> Summary:
    """Send six hundred transactions in two seconds and match their verdicts."""
    options = LoadgenSettings(
        **shared(settings),
        loadgen_verify=True,
        loadgen_duration=2,
        transactions_per_second=300,
        loadgen_settle=30,
        **given,
    )
    share = Share(options)
    try:
        await share.prepare()
        meanwhile()
        return (await watch(options, share)).summary
    finally:
        await share.close()


async def test_kafka_is_driven_directly_and_verified(detecting: TopicSettings) -> None:
    """Transactions go past the gateway; the detector's verdicts come back from Kafka."""
    found = await run(detecting, loadgen_target="kafka")
    assert found.verification is not None
    assert (found.accepted, found.verification.verdicts) == (600, 600)
    assert found.ok
    looked = await audited(detecting)
    assert looked == Findings(transactions=600, verdicts=600, fraud=found.above_limit)


async def test_what_is_no_verdict_stops_no_run(detecting: TopicSettings) -> None:
    """Others' records in a verdict topic are passed over, as `verify` and the streams do."""
    foreign = (b"no json", None, b'{"transaction_id": "\xff"}')
    topic = detecting.legit_topic
    found = await run(detecting, lambda: write(detecting, topic, *foreign), loadgen_target="kafka")
    assert found.verification is not None
    assert (found.accepted, found.verification.verdicts) == (600, 600)
    assert found.ok


def replace(settings: TopicSettings, topic: str) -> None:
    """Put an empty topic in a topic's place."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_broker_url})
    admin.delete_topics([topic])[topic].result(20)
    admin.create_topics([NewTopic(topic, settings.partitions)])[topic].result(20)


async def test_verdicts_that_can_t_be_followed_on_fail_the_run(
    kafka_settings: TopicSettings,
) -> None:
    """What is to be read next is gone: it ends early, and what ran is reported."""
    topic = kafka_settings.legit_topic
    for number in range(kafka_settings.partitions):
        write(kafka_settings, topic, b"other", partition=number)
    found = await run(
        kafka_settings, lambda: replace(kafka_settings, topic), loadgen_target="kafka"
    )
    assert found.verification is not None
    assert found.verification.gaps == 1
    assert found.verification.lost == found.accepted
    assert not found.ok


@pytest.mark.parametrize("batch", [1, 20])
async def test_the_gateway_is_driven_and_verified(
    detecting: TopicSettings, parts: Parts, batch: int
) -> None:
    """POST to event stream, one by one and in batches: each has its one, right verdict."""
    url, _ = await asyncio.to_thread(parts.gateway, 1)
    found = await run(detecting, loadgen_url=url, loadgen_batch=batch)
    assert found.verification is not None
    assert (found.requests, found.errors) == (600 // batch, {})
    assert (found.accepted, found.verification.verdicts) == (600, 600)
    assert found.ok
    assert (await audited(detecting)).ok


async def test_a_kafka_that_is_there_need_not_be_waited_for(kafka_settings: TopicSettings) -> None:
    """With no time to wait for it, it still gets the time that an answer takes."""
    target = KafkaTarget(kafka_settings, timeout=20)
    await target.ready(0)
    await target.close()
