"""Compressed topics: by whoever writes to them, or by a setting of the topic's."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Producer

from detector.rulesfile import RulesSource
from detector.service import Detector
from detector.settings import DetectorSettings
from tests.streaming import reading
from wire import kafka
from wire.messages import Transaction, encode
from wire.settings import TopicSettings

DEADLINE_S = 40
SENT = 50
Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def write(settings: TopicSettings, codec: str) -> list[str]:
    """Write transactions with a client of another make, many in a batch; give their ids."""
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka_broker_url,
            "compression.type": codec,
            "linger.ms": 100,
            "log_level": 0,
        }
    )
    ids = [f"t-{number}" for number in range(SENT)]
    for name in ids:
        value = encode(Transaction(transaction_id=name, source="alice", target="bob", amount="1"))
        producer.produce(settings.transactions_topic, value, b"alice")
    assert producer.flush(DEADLINE_S) == 0
    return ids


async def compress(settings: TopicSettings, codec: str) -> None:
    """Have the broker keep the verdict topics compressed, however they are written."""
    admin = await kafka.start(lambda: kafka.admin(settings))
    wanted = {"compression.type": codec}
    topics = (settings.legit_topic, settings.fraud_topic)
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in topics]
    (answer,) = await admin.alter_configs(resources)
    await kafka.close(admin)
    assert [code for code, *_ in answer.resources] == [0, 0]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_is_compressed_is_decided_and_streamed(
    kafka_settings: TopicSettings, serve_gateway: Serve, codec: str
) -> None:
    """Transactions that their producer compressed, and verdicts that the broker did."""
    await compress(kafka_settings, codec)
    sent = await asyncio.to_thread(write, kafka_settings, codec)
    fields = kafka_settings.model_dump() | {"detector_group": kafka_settings.transactions_topic}
    settings = DetectorSettings(**fields)
    detector = Detector(settings, RulesSource(settings.detector_rules))
    running = asyncio.create_task(detector.run())
    try:
        async with (
            asyncio.timeout(DEADLINE_S),
            serve_gateway(kafka_settings) as gateway,
            reading(gateway.base_url, "/stream/all?since=earliest") as reader,
        ):
            assert Counter(sent) == Counter(await reader.ids(SENT))
    finally:
        detector.stop()
        await running
