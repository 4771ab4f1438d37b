"""The windows of partitions, rebuilt from the log of a real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from detector.batch import judge
from detector.history import History
from detector.metrics import Metrics
from detector.rulesfile import RulesSource
from detector.settings import DetectorSettings
from detector.states import States
from detector.windows import WindowLimits
from wire import kafka
from wire.messages import Transaction, encode, instant
from wire.settings import TopicSettings
from wire.source import Limits, Source

DEADLINE_S = 40
COMMITTED, RECORDS = 900, 1_000
LIMITS = Limits(wait_ms=200, partition_bytes=16_384, total_bytes=65_536, deadline_s=20)
RULES = """
[[rules]]
id = "velocity"
kind = "velocity"
within = "{within}"
limit = 10
"""


@pytest.fixture
async def client(kafka_settings: TopicSettings) -> AsyncIterator[kafka.RawClient]:
    """A client that knows the transactions topic, which has many of one account's."""
    topic = kafka_settings.transactions_topic
    producer = await kafka.start(lambda: kafka.producer(kafka_settings))
    for number in range(RECORDS):
        value = encode(Transaction(f"t-{number}", "alice", "bob", Decimal(1)))
        await producer.send(topic, value, partition=0)
    await kafka.close(producer)
    client = await kafka.start(lambda: kafka.client(kafka_settings, [topic]))
    yield client
    await kafka.close(client)


@pytest.mark.parametrize("within", ["10m", "20m"])
async def test_rules_that_change_during_a_rebuild_are_those_that_decide(
    kafka_settings: TopicSettings, client: kafka.RawClient, tmp_path: Path, within: str
) -> None:
    """From the first record after it on, also where the new ones have another window."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES.format(within="10m"))
    rules = RulesSource(file)
    place = TopicPartition(kafka_settings.transactions_topic, 0)
    settings = DetectorSettings(**kafka_settings.model_dump())
    source = Source(client, LIMITS)
    history = History(settings, client, source)
    states = States(WindowLimits(), rules, Metrics(), {})
    await states.restore({place: COMMITTED}, source, history)
    changed, decided = False, None
    async with asyncio.timeout(DEADLINE_S):
        while decided is None:
            [chunk] = await source.read() or [None]
            if place in await states.follow_rules(source, history) or chunk is None:
                continue
            if not changed:
                assert states.take(chunk) is None  # there is more to be read than one chunk
                file.write_text(RULES.format(within=within).replace("10\n", "500\n"))
                changed = rules.poll(force=True) is not None
                continue
            if ready := states.take(chunk):
                engine = states[place].engine
                decided = judge(engine, ready.records, instant(0), place)
    await source.stop()
    assert engine.rules is rules.rules
    assert ready.records[0].offset == COMMITTED
    assert f'"{COMMITTED + 1} transactions in '.encode() in decided.fraud[0][1]
