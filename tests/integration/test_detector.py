"""The detector on a real Kafka, read back with another make of client."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from detector import service, worker
from detector.batch import Outcome, judge
from detector.rulesfile import RulesSource
from detector.service import Detector
from tests import foreign
from tests.detecting import (
    DEADLINE_S,
    Read,
    decided,
    payment,
    produce,
    running,
    settings_for,
    until,
    verdicts,
)
from wire import kafka
from wire.messages import decode_verdict, encode
from wire.settings import TopicSettings


async def test_more_than_900_is_fraud(kafka_settings: TopicSettings, read_committed: Read) -> None:
    """900.00 is legit and 900.01 is fraud, each on its topic and only there."""
    under, over = payment("900.00"), payment("900.01")
    await produce(kafka_settings, under, over)
    async with running(settings_for(kafka_settings)) as detector:
        await until(lambda: detector.metrics.records == 2)
    [legit] = verdicts(read_committed, kafka_settings, kafka_settings.legit_topic)
    [fraud] = verdicts(read_committed, kafka_settings, kafka_settings.fraud_topic)
    assert (under.transaction_id, "legit", 0) == (
        legit.transaction_id,
        legit.decision,
        legit.score,
    )
    assert (over.transaction_id, "fraud", 100) == (
        fraud.transaction_id,
        fraud.decision,
        fraud.score,
    )
    assert [reason.rule for reason in fraud.reasons] == ["amount-limit"]


async def test_verdicts_keep_partition_key_order_and_time(
    kafka_settings: TopicSettings, read_committed: Read
) -> None:
    """A verdict lies in its transaction's partition, under its key, in its order."""
    sent = [payment(source=f"account-{n % 20}") for n in range(300)]
    await produce(kafka_settings, *sent)
    async with running(settings_for(kafka_settings)) as detector:
        await until(lambda: detector.metrics.records == 300)
    records = read_committed(kafka_settings, kafka_settings.transactions_topic)
    found = read_committed(kafka_settings, kafka_settings.legit_topic)
    assert [(r.partition(), r.key(), r.timestamp()[1]) for r in records] == [
        (
            f.partition(),
            f.key(),
            round(decode_verdict(f.value()).received_at.timestamp() * 1000),
        )
        for f in found
    ]
    assert [m.value()[:-1] for m in records] == [
        f.value()[: len(m.value()) - 1] for m, f in zip(records, found, strict=True)
    ]


@pytest.mark.parametrize("poison", [b"\xff not JSON", b'{"source":"alice"}', None])
async def test_poison_goes_to_the_dead_letters(
    kafka_settings: TopicSettings, read_committed: Read, poison: bytes | None
) -> None:
    """What is no transaction is kept as it was, with where it lay, and nothing stops."""
    before, after = payment(), payment()
    await produce(kafka_settings, before, poison, after)
    async with running(settings_for(kafka_settings)) as detector:
        await until(lambda: detector.metrics.records == 3)
    records = read_committed(kafka_settings, kafka_settings.transactions_topic)
    [original] = [r for r in records if r.value() == poison]
    [letter] = read_committed(kafka_settings, kafka_settings.dead_letter_topic)
    assert (poison, b"alice", original.partition()) == (
        letter.value(),
        letter.key(),
        letter.partition(),
    )
    headers = letter.headers()
    assert [
        ("trace", b"1"),
        ("topic", kafka_settings.transactions_topic.encode()),
        ("partition", str(original.partition()).encode()),
        ("offset", str(original.offset()).encode()),
    ] == headers[:4]
    assert headers[4][0] == "error"
    assert headers[4][1]
    assert {before.transaction_id: 1, after.transaction_id: 1} == decided(
        read_committed, kafka_settings
    )


async def test_a_duplicate_gets_no_second_verdict(
    kafka_settings: TopicSettings, read_committed: Read
) -> None:
    """The same id from the same source is decided once, even by a detector that starts later."""
    once, other = payment(), payment()
    settings = settings_for(kafka_settings)
    await produce(kafka_settings, once, once, other)
    async with running(settings) as first:
        await until(lambda: first.metrics.records == 3)
    await produce(kafka_settings, once)
    async with running(settings) as second:
        await until(lambda: second.metrics.records == 1)
    assert (first.metrics.duplicates, second.metrics.duplicates) == (1, 1)
    assert {once.transaction_id: 1, other.transaction_id: 1} == decided(
        read_committed, kafka_settings
    )


@pytest.mark.parametrize("before", [(-3_000, -2_000), (-3_000, 1_000)])
async def test_a_duplicate_from_before_1970_gets_no_second_verdict(
    kafka_settings: TopicSettings, read_committed: Read, before: tuple[int, ...]
) -> None:
    """Kafka takes any time, and finds none before 1970: windows go back to the log's beginning."""
    once, other = (payment(transaction_id=name) for name in ("once", "other"))
    settings = settings_for(kafka_settings)
    topic = kafka_settings.transactions_topic
    for sent, at_ms in zip((once, other), before, strict=True):
        await foreign.write(kafka_settings, topic, encode(sent), at_ms=at_ms)
    # So that Kafka does not delete the others for their age.
    await foreign.write(kafka_settings, topic, b"no transaction")
    async with running(settings) as first:
        await until(lambda: first.metrics.records == 3)
    await foreign.write(kafka_settings, topic, encode(once), at_ms=before[-1])
    async with running(settings) as second:
        await until(lambda: second.metrics.records == 1)
    assert (second.metrics.rebuilt_records, second.metrics.duplicates) == (3, 1)
    assert decided(read_committed, kafka_settings) == {"once": 1, "other": 1}


async def test_detectors_share_and_take_over(
    kafka_settings: TopicSettings, read_committed: Read
) -> None:
    """A second detector joins mid-stream and the first one leaves: one verdict each."""
    settings = settings_for(kafka_settings)
    sent = [payment(source=f"account-{n}") for n in range(900)]
    async with running(settings) as second:
        async with running(settings) as first:
            await until(lambda: bool(first.metrics.rebuilds and second.metrics.rebuilds))
            await produce(kafka_settings, *sent[:300])
            await until(lambda: bool(first.metrics.records and second.metrics.records))
            await produce(kafka_settings, *sent[300:600])
        await produce(kafka_settings, *sent[600:])
        await until(lambda: first.metrics.records + second.metrics.records == 900)
    assert {each.transaction_id: 1 for each in sent} == decided(read_committed, kafka_settings)
    # What was in hand when partitions went was finished first: nothing was cut off or fenced.
    assert (first.metrics.aborts, second.metrics.aborts) == (0, 0)
    assert (first.metrics.fenced, second.metrics.fenced) == (0, 0)


async def test_a_failure_as_partitions_are_assigned_ends_the_detector(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group's client only logs it: a member would go on that owns partitions and reads none."""

    def fails(*_given: Any, **_more: Any) -> None:
        raise LookupError("no worker")

    monkeypatch.setattr(service, "Worker", fails)
    detector = Detector(settings_for(kafka_settings), RulesSource(None))
    with pytest.raises(LookupError, match="no worker"):
        async with asyncio.timeout(DEADLINE_S):
            await detector.run()


async def test_a_detector_that_ends_in_a_rebalance_leaves_nobody_at_work(
    kafka_settings: TopicSettings,
) -> None:
    """Partitions that it is given while it goes are left to those who stay."""
    settings = settings_for(kafka_settings)

    class Going(Detector):
        async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
            if revoked:
                self.stop()
            await super().on_partitions_revoked(revoked)

    going = Going(settings, RulesSource(None))
    gone = asyncio.create_task(going.run())
    await until(lambda: going.metrics.rebuilds == kafka_settings.partitions)
    async with running(settings) as staying:
        await gone
        await until(lambda: len(staying.metrics.lag) == kafka_settings.partitions)
    assert [task for task in asyncio.all_tasks() if task.get_name() == "worker"] == []


async def test_an_aborted_batch_is_read_again(
    kafka_settings: TopicSettings, read_committed: Read
) -> None:
    """Kafka refuses a topic's records for a while: rolled back, read again, decided once."""
    topics = kafka_settings.model_copy(update={"legit_topic": f"{kafka_settings.legit_topic}.s"})
    sent = [payment("1.00"), payment("900.01"), payment("2.00")]
    admin = await kafka.start(lambda: kafka.admin(topics))
    small = NewTopic(topics.legit_topic, 4, 1, topic_configs={"max.message.bytes": "100"})
    await admin.create_topics([small])
    await produce(topics, *sent)
    async with running(settings_for(topics)) as detector:
        await until(lambda: detector.metrics.aborts > 0)
        usual = {"max.message.bytes": "1000000"}
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topics.legit_topic, configs=usual)]
        )
        await until(lambda: detector.metrics.records == 3)
    await admin.close()
    assert detector.metrics.duplicates == 0
    assert {each.transaction_id: 1 for each in sent} == decided(read_committed, topics)


async def test_the_event_loop_has_its_turn_between_records(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the first batch of a back-log: slow rules would hold the group's heartbeats up."""
    turns, seen = 0, []

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noted(*given: Any, **more: Any) -> Outcome:
        seen.append(turns)
        return judge(*given, **more)

    monkeypatch.setattr(worker, "judge", noted)
    await produce(kafka_settings, *[payment() for _ in range(4 * worker.RECORDS_IN_ONE_GO)])
    turning = asyncio.create_task(turn())
    async with running(settings_for(kafka_settings)) as detector:
        await until(lambda: detector.metrics.records == 4 * worker.RECORDS_IN_ONE_GO)
    turning.cancel()
    assert (len(seen) >= 4, len(set(seen))) == (True, len(seen))
