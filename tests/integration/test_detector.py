"""The detector on a real Kafka, read back with another make of client."""

import asyncio
import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Message

from detector import rulesfile, service, worker
from detector.batch import Outcome, judge
from detector.rules import RuleSet
from detector.rulesfile import RulesSource, load
from detector.service import Detector
from detector.settings import DetectorSettings
from tests import foreign
from tests.cluster import Cluster
from tests.conftest import topic_settings
from tests.processes import Programs, environment
from wire import kafka
from wire.errors import StuckError
from wire.messages import Transaction, Verdict, decode_verdict, encode
from wire.settings import TopicSettings
from wire.topics import ensure

DEADLINE_S = 40
Read = Callable[[TopicSettings, str], list[Message]]
ids: Iterator[int] = itertools.count()


def payment(amount: str = "1.00", source: str = "alice", **given: Any) -> Transaction:
    """Make a transaction with an id of its own."""
    fields = {"transaction_id": f"t-{next(ids)}", "source": source, "target": "bob"}
    return Transaction(**(fields | {"amount": amount} | given))


def settings_for(topics: TopicSettings, **given: Any) -> DetectorSettings:
    """Give a detector's settings on a test's topics, in a group of the test's own."""
    fields = topics.model_dump() | {"detector_group": topics.transactions_topic}
    return DetectorSettings(**(fields | {"detector_session_timeout_ms": 6_000} | given))


@asynccontextmanager
async def running(settings: DetectorSettings) -> AsyncIterator[Detector]:
    """Run a detector in this event loop."""
    detector = Detector(settings, RulesSource(settings.detector_rules))
    task = asyncio.create_task(detector.run())
    try:
        yield detector
    finally:
        detector.stop()
        await task


async def produce(settings: TopicSettings, *values: Transaction | bytes | None) -> None:
    """Write records to the transactions topic, keyed by their source."""
    producer = await kafka.start(lambda: kafka.producer(settings), patience=DEADLINE_S)
    try:
        sent = []
        for value in values:
            known = isinstance(value, Transaction)
            key = value.source.encode() if known else b"alice"  # type: ignore[union-attr]
            content = encode(value) if known else value  # type: ignore[arg-type]
            sent.append(
                await producer.send(
                    settings.transactions_topic, content, key=key, headers=[("trace", b"1")]
                )
            )
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - a counter can't be waited for
            await asyncio.sleep(0.02)


def verdicts(read: Read, settings: TopicSettings, topic: str) -> list[Verdict]:
    """Read the verdicts of a topic."""
    return [decode_verdict(message.value()) for message in read(settings, topic)]


def decided(read: Read, settings: TopicSettings) -> Counter[str]:
    """Count the verdicts of each transaction over both topics."""
    return Counter(
        verdict.transaction_id
        for topic in (settings.legit_topic, settings.fraud_topic)
        for verdict in verdicts(read, settings, topic)
    )


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


async def test_a_detector_may_start_with_its_broker(
    broker_that_is_down: Cluster, read_committed: Read
) -> None:
    """Both at the same moment, on fresh data, the topics made meanwhile: it waits, and decides."""
    topics = topic_settings(broker_that_is_down.address)
    sent = [payment(source=f"account-{n}") for n in range(40)]
    async with running(settings_for(topics)) as detector:
        broker_that_is_down.launch()
        await ensure(topics)
        await produce(topics, *sent)
        await until(lambda: detector.metrics.records == 40)
    assert {each.transaction_id: 1 for each in sent} == decided(read_committed, topics)


async def test_a_kafka_that_falls_silent_ends_the_process(
    own_broker: Any, own_settings: TopicSettings, tmp_path: Path
) -> None:
    """No answer within the deadline: an exit code for the supervisor to start it again, and why."""
    await produce(own_settings, payment("1.00"))
    async with running(settings_for(own_settings)) as first:  # a fresh Kafka may take longer
        await until(lambda: first.metrics.records == 1)
    programs = Programs(tmp_path)
    try:
        given = settings_for(own_settings, detector_deadline_seconds=2)
        detector = programs.start("-m", "detector", env=environment(given))
        await until(lambda: detector.output.count("working") == own_settings.partitions)
        own_broker.processes[1].send_signal(signal.SIGSTOP)
        assert await asyncio.to_thread(detector.wait) == 1
        assert "kafka did not answer within 2 s" in detector.output
    finally:
        programs.end()


async def test_the_broker_goes_and_comes_back(
    own_broker: Any, own_settings: TopicSettings, read_committed: Read
) -> None:
    """A killed broker that comes back finds the same detector at work: one verdict each.

    To one that does not, the detector ends: a new process looks for Kafka anew.
    """
    sent = [payment(source=f"account-{n}") for n in range(200)]
    async with running(settings_for(own_settings)) as detector:
        await produce(own_settings, *sent[:100])
        await until(lambda: detector.metrics.records > 0)
        own_broker.kill()
        await asyncio.to_thread(own_broker.processes[1].wait)
        await own_broker.start()
        await produce(own_settings, *sent[100:])
        await until(lambda: detector.metrics.records == 200)
    assert {each.transaction_id: 1 for each in sent} == decided(read_committed, own_settings)

    # The next time it does not come back.
    last = Detector(settings_for(own_settings, detector_deadline_seconds=2), RulesSource(None))

    async def end_kafka() -> None:
        await until(lambda: len(last.metrics.lag) == own_settings.partitions)
        own_broker.kill()

    with pytest.raises(StuckError, match="no broker has answered a fetch within 6 s"):
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(last.run(), end_kafka())


async def test_changed_rules_are_put_in_force(
    kafka_settings: TopicSettings, read_committed: Read, tmp_path: Path
) -> None:
    """A change of the rules file shows in the next verdicts; a bad file leaves the rules."""
    file = tmp_path / "rules.toml"
    file.write_text(amount_rule("900"))
    source = RulesSource(file)
    before = source.rules.version
    settings = settings_for(kafka_settings, detector_rules=file, detector_rules_poll_seconds=0.05)
    async with running(settings) as detector:
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 1)
        file.write_text("rules = 1")
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 2)
        file.write_text(amount_rule("100"))
        await until(lambda: detector.rules_version != before)
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 3)
    legit = verdicts(read_committed, kafka_settings, kafka_settings.legit_topic)
    [fraud] = verdicts(read_committed, kafka_settings, kafka_settings.fraud_topic)
    assert [before, before] == [verdict.rules_version for verdict in legit]
    assert detector.rules_version == fraud.rules_version


async def test_a_hang_up_signal_has_the_rules_read_at_once(
    kafka_settings: TopicSettings, read_committed: Read, tmp_path: Path
) -> None:
    """SIGHUP, even where the file's time and size say that nothing has changed."""
    file = tmp_path / "rules.toml"
    file.write_text(amount_rule("900"))
    told = file.stat()
    settings = settings_for(kafka_settings, detector_rules=file, detector_rules_poll_seconds=10)
    programs = Programs(tmp_path)
    try:
        detector = programs.start("-m", "detector", env=environment(settings))
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: len(read_committed(kafka_settings, kafka_settings.legit_topic)) == 1)
        detector.popen.send_signal(signal.SIGHUP)
        await until(lambda: "rules are the same" in detector.output)
        file.write_text(amount_rule("100"))
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
        detector.popen.send_signal(signal.SIGHUP)
        await until(lambda: "rules changed" in detector.output)
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: len(read_committed(kafka_settings, kafka_settings.fraud_topic)) == 1)
    finally:
        programs.end()


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


async def test_rules_are_read_while_transactions_are_decided(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Long lists take seconds to read: who stood still meanwhile would be put out of the group."""
    file = tmp_path / "rules.toml"
    file.write_text(amount_rule("900"))
    settings = settings_for(kafka_settings, detector_rules=file, detector_rules_poll_seconds=0.01)
    reading, decided = threading.Event(), threading.Event()

    def slowly(path: Path) -> RuleSet:
        reading.set()
        assert decided.wait(DEADLINE_S)
        return load(path)

    async with running(settings) as detector:
        before = detector.rules_version
        monkeypatch.setattr(rulesfile, "load", slowly)
        file.write_text(amount_rule("100"))
        await until(reading.is_set)
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 1)
        assert (detector.metrics.legit, detector.rules_version) == (1, before)
        decided.set()
        await until(lambda: detector.rules_version != before)


def amount_rule(limit: str) -> str:
    """Write a rules file with one rule."""
    return f'[[rules]]\nid = "big"\nkind = "amount_limit"\nlimit = {limit}\nweight = 100\n'
