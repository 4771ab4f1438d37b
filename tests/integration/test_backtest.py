"""The backtest over real topics: the recorded verdicts are found, and what differs is seen."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from random import Random

import pytest
from aiokafka import TopicPartition

from detector import rulesfile
from detector.backtest.command import find
from detector.backtest.cursor import ends
from detector.backtest.settings import BacktestSettings
from detector.backtest.verdicts import Verdicts
from detector.batch import judge
from detector.engine import Engine
from tests import foreign
from wire import kafka
from wire.messages import Transaction, encode
from wire.settings import load

START_MS = time.time_ns() // 1_000_000 - 3_600_000
"""An hour ago: what is older than a topic's retention may be gone at any moment."""
RECORDS = 3_000
BATCH = 1_000
POISON = b"no transaction"
RULES = """
threshold = 50
duplicates = "20s"
[[rules]]
id = "amount-limit"
kind = "amount_limit"
limit = 900
[[rules]]
id = "velocity"
kind = "velocity"
weight = 30
within = "10s"
limit = 5
"""


class Record:
    """What the detector reads of a Kafka record."""

    topic, key, headers = "", None, ()

    def __init__(self, partition, offset, timestamp, value):
        self.partition, self.offset, self.timestamp = partition, offset, timestamp
        self.value = value


def traffic(partition):
    """Make a partition's records: 10 ms apart, some late, some twice, some that are poison."""
    random = Random(partition)
    records = []
    for number in range(RECORDS):
        stamp = START_MS + number * 10 - random.choice([0, 0, 0, 25])
        transaction = Transaction(
            f"{partition}-{random.randrange(RECORDS)}",
            f"account-{partition}-{random.randrange(40)}",
            "x",
            Decimal(random.randrange(1, 95_000)) / 100,
        )
        value = POISON if random.random() < 0.01 else encode(transaction)
        records.append(Record(partition, number, stamp, value))
    return records


@pytest.fixture
def rules(tmp_path):
    """A rules file with a window."""
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


@pytest.fixture
async def judged(kafka_settings, rules):
    """Topics with transactions, and with the verdicts on them in transactions, some aborted."""
    async with AsyncExitStack() as stack:
        plain = await kafka.start(lambda: kafka.producer(kafka_settings))
        stack.push_async_callback(plain.stop)
        writer = await kafka.start(
            lambda: kafka.producer(
                kafka_settings, transactional_id=kafka_settings.legit_topic, retry_backoff_ms=5
            )
        )
        stack.push_async_callback(writer.stop)
        await write(kafka_settings, rules, plain, writer)
    return kafka_settings


async def write(kafka_settings, rules, plain, writer):
    """Write the traffic, and the verdicts on it twice: rolled back, then for good."""
    topics = {"legit": kafka_settings.legit_topic, "fraud": kafka_settings.fraud_topic}
    for partition in range(2):  # the other two stay empty
        records = traffic(partition)
        for record in records:
            await plain.send(
                kafka_settings.transactions_topic,
                record.value,
                partition=partition,
                timestamp_ms=record.timestamp,
            )
        engine = Engine(rulesfile.load(rules))
        for first in range(0, RECORDS, BATCH):
            outcome = judge(
                engine,
                records[first : first + BATCH],
                datetime.now(UTC),
                TopicPartition(kafka_settings.transactions_topic, partition),
            )
            for aborted in (True, False):
                await writer.begin_transaction()
                for decision, topic in topics.items():
                    for key, value, _ in getattr(outcome, decision):
                        await writer.send(topic, value, key, partition)
                await (writer.abort_transaction() if aborted else writer.commit_transaction())
    # What was committed last may be seen only a moment later; a next transaction begins after that.
    await writer.begin_transaction()
    await writer.send_and_wait(kafka_settings.legit_topic, POISON, partition=0)
    await writer.abort_transaction()


async def backtest(judged, **given):
    given = {f"backtest_{name}": value for name, value in given.items()}
    settings = load(BacktestSettings, **(judged.model_dump() | given))
    return await asyncio.to_thread(find, settings)


async def test_the_same_rules_find_every_recorded_verdict_the_same(judged, rules):
    """Decision, score and reasons of every verdict come out again, and no verdict is left over."""
    result = await backtest(judged, rules=rules)
    assert result.same
    assert result.decisions["fraud"] > 100
    assert result.duplicates > 20
    assert result.refused > 10
    assert result.decided + result.duplicates + result.refused == 2 * RECORDS


async def test_a_range_is_judged_as_within_the_whole_log(judged, rules):
    """From the middle of the log the verdicts are the same, after a replay from the horizon."""
    result = await backtest(judged, rules=rules, since=START_MS + 20_000, until=START_MS + 25_000)
    assert result.same
    assert 800 < result.decided + result.duplicates < 1_200
    assert result.replayed > 3_000


async def test_other_rules_flip_what_they_should(judged):
    """The shipped rules know no velocity: what flips became legit, for that reason."""
    result = await backtest(judged, examples=5)
    assert result.confusion["legit", "fraud"] == 0
    assert not result.same
    assert result.missing == 0
    assert len(result.examples["changed"]) == 5
    assert {each.reference.reasons[-1].rule for each in result.examples["changed"]} == {"velocity"}


async def test_labels_can_come_with_the_transactions(kafka_settings):
    """A key of the metadata says what the truth is; those without it are compared with nothing."""
    producer = await kafka.start(lambda: kafka.producer(kafka_settings))
    truths = [("950", "fraud"), ("950", "0"), ("50", "true"), ("50", None), ("50", "perhaps")]
    for number, (amount, truth) in enumerate(truths):
        metadata = {"truth": truth} if truth else None
        transaction = Transaction(str(number), "a", "x", Decimal(amount), metadata=metadata)
        await producer.send_and_wait(kafka_settings.transactions_topic, encode(transaction), b"a")
    await producer.stop()
    result = await backtest(kafka_settings, label="truth")
    expected = {("fraud", "fraud"): 1, ("legit", "fraud"): 1, ("fraud", "legit"): 1}
    assert expected == result.confusion
    assert (result.decided, result.missing) == (5, 0)


async def test_a_second_verdict_and_a_missing_one_are_found(judged, rules):
    """What exactly-once forbids does not stay unseen."""
    known = await backtest(judged, rules=rules)
    unjudged = Transaction("late", "account-0-1", "x", Decimal(1))
    verdict = judge(
        Engine(rulesfile.load(rules)),
        [Record(0, 0, START_MS + 10, encode(Transaction("once", "a", "x", Decimal(1))))],
        datetime.now(UTC),
        TopicPartition(judged.transactions_topic, 0),
    ).legit[0][1]
    producer = await kafka.start(lambda: kafka.producer(judged))
    await producer.send_and_wait(
        judged.transactions_topic, encode(unjudged), partition=0, timestamp_ms=START_MS + 40_000
    )
    await producer.send_and_wait(judged.legit_topic, verdict, partition=0)
    await producer.send_and_wait(judged.legit_topic, verdict, partition=0)
    await producer.stop()
    result = await backtest(judged, rules=rules)
    assert (result.missing, result.extra) == (1, 2)
    assert [each.transaction_id for each in result.examples["missing"]] == ["late"]
    assert result.decided == known.decided + 1


async def test_a_verdict_that_comes_during_the_backtest_is_found(kafka_settings):
    """Detectors are a little behind a log that grows; what they say beyond its end is no fault."""
    settings = load(BacktestSettings, **kafka_settings.model_dump())
    transactions = [Transaction(each, "a", "x", Decimal(1)) for each in ("last", "behind the end")]
    at_ms = time.time_ns() // 1_000_000
    outcome = judge(
        Engine(rulesfile.load(None)),
        [Record(0, at, at_ms, encode(each)) for at, each in enumerate(transactions)],
        datetime.now(UTC),
        TopicPartition(settings.transactions_topic, 0),
    )
    topics = settings.legit_topic, settings.fraud_topic
    client = await kafka.start(lambda: kafka.client(settings, topics))
    producer = await kafka.start(lambda: kafka.producer(settings))
    there = await ends(client, settings, [TopicPartition(topic, 0) for topic in topics])
    for _, verdict, _ in outcome.legit:
        await producer.send_and_wait(settings.legit_topic, verdict, partition=0)
    async with Verdicts(client, settings, 0, there) as verdicts:
        found = await verdicts.on(transactions[0], at_ms)
        await verdicts.finish(at_ms, at_ms)
    await producer.stop()
    await kafka.close(client)
    assert found is not None
    assert (found.decision, verdicts.extra) == ("legit", 0)


async def test_a_headers_name_may_be_no_utf_8(judged, rules):
    """Kafka does not look at it, so it can be in the log and among the verdicts: they are read."""
    known = await backtest(judged, rules=rules)
    late = Transaction("late", "account-0-1", "x", Decimal(1))
    at_ms = START_MS + 40_000
    await foreign.write(judged, judged.transactions_topic, encode(late), at_ms=at_ms)
    await foreign.write(judged, judged.legit_topic, POISON, at_ms=at_ms)
    result = await backtest(judged, rules=rules)
    assert (known.decided, known.missing, known.extra) == (result.decided - 1, 0, 0)
    assert (result.missing, result.extra) == (1, 1)


async def test_a_record_of_no_year_is_no_transaction(kafka_settings):
    """The detector puts it among the dead letters, so no verdict on it is missing."""
    value = encode(Transaction("t", "a", "x", Decimal(1)))
    await foreign.write(kafka_settings, kafka_settings.transactions_topic, value, at_ms=START_MS)
    await foreign.write(kafka_settings, kafka_settings.transactions_topic, value, at_ms=-(10**15))
    result = await backtest(kafka_settings)
    assert (result.decided, result.missing, result.refused) == (1, 1, 1)
