"""Auditing what lies in a real Kafka, as `fraudstream verify` does."""

import asyncio
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from structlog.testing import capture_logs

from loadgen.verify import command
from loadgen.verify.audit import Findings
from tests import foreign
from tests.auditing import audited, shared, write
from tests.parts import Parts
from wire import kafka
from wire.messages import Reason, Transaction, Verdict, decode_transaction, encode
from wire.settings import TopicSettings


def verdict(transaction: Transaction, received_at: datetime, *, fraud: bool) -> Verdict:
    """Decide on a transaction."""
    return Verdict(
        transaction_id=transaction.transaction_id,
        source=transaction.source,
        target=transaction.target,
        amount=transaction.amount,
        currency=transaction.currency,
        decision="fraud" if fraud else "legit",
        score=100 if fraud else 0,
        reasons=(Reason("amount", "1", "amount > 900"),) if fraud else (),
        rules_version="1",
        received_at=received_at,
        decided_at=datetime.now(UTC),
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


class Log:
    """Writes transactions and outcomes as gateway and detector do, and with faults."""

    def __init__(self, settings: TopicSettings) -> None:
        self.settings = settings
        self.records: list[Any] = []

    async def fill(self, count: int) -> None:
        """Write transactions, one a minute, every tenth above the limit, and what is none."""
        begin = datetime.now(UTC) - timedelta(minutes=count)
        async with kafka.producer(self.settings) as producer:
            for k in range(count):
                amount = "900.01" if k % 10 == 0 else "900.00"
                value = {"transaction_id": f"t{k}", "source": f"a{k % 7}", "target": "b"}
                await producer.send(
                    self.settings.transactions_topic,
                    json.dumps(value | {"amount": amount}).encode(),
                    key=f"a{k % 7}".encode(),
                    timestamp_ms=_ms(begin + timedelta(minutes=k)),
                )
            poison = await producer.send_and_wait(self.settings.transactions_topic, b"no json")
        self.poison_headers = [
            ("topic", poison.topic.encode()),
            ("partition", str(poison.partition).encode()),
            ("offset", str(poison.offset).encode()),
        ]

    async def decide(self, change: Callable[[list[Verdict]], list[Verdict]] = list) -> None:
        """Write the verdicts on what is there, changed as told, and the dead letter."""
        async with kafka.consumer(self.settings, auto_offset_reset="earliest") as consumer:
            consumer.subscribe([self.settings.transactions_topic])
            found: list[Verdict] = []
            while len(found) < 50:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        if record.value != b"no json":
                            transaction = decode_transaction(record.value)
                            at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
                            fraud = transaction.amount > 900
                            found.append(verdict(transaction, at, fraud=fraud))
        async with kafka.producer(self.settings) as producer:
            for each in change(found):
                fraud = each.decision == "fraud"
                topic = self.settings.fraud_topic if fraud else self.settings.legit_topic
                stamp = _ms(each.received_at)
                await producer.send(
                    topic, encode(each), key=each.source.encode(), timestamp_ms=stamp
                )
            await producer.send_and_wait(
                self.settings.dead_letter_topic, b"no json", headers=self.poison_headers
            )
            await producer.flush()


@pytest.fixture
def detecting(parts: Parts) -> TopicSettings:
    """The real detector, at work on this test's topics."""
    parts.start("detector")
    return parts.settings


@pytest.fixture
async def log(kafka_settings: TopicSettings) -> Log:
    """Fifty transactions and one record that is none."""
    filled = Log(kafka_settings)
    await filled.fill(50)
    return filled


async def test_a_log_that_is_right(log: Log) -> None:
    """Fifty transactions, fifty verdicts, one dead letter, and no fault."""
    await log.decide()
    found = await audited(log.settings)
    assert found == Findings(transactions=50, verdicts=50, fraud=5, poison=1, dead_letters=1)


async def test_a_log_with_faults(log: Log) -> None:
    """One verdict is missing, one is there twice, one is wrong, one is on nothing."""

    def spoiled(verdicts: list[Verdict]) -> list[Verdict]:
        lost, twice, wrong, *others = verdicts
        turned = "legit" if wrong.decision == "fraud" else "fraud"
        wrong = msgspec.structs.replace(wrong, decision=turned)
        nobodys = msgspec.structs.replace(lost, transaction_id="nobody's")
        return [twice, twice, wrong, nobodys, *others]

    await log.decide(spoiled)
    found = await audited(log.settings)
    faults = (found.lost, found.duplicate, found.misclassified, found.unknown)
    assert faults == (1, 1, 1, 1)


async def test_a_record_of_no_year_is_no_transaction(detecting: TopicSettings) -> None:
    """Its time is beyond all calendars, and its outcome a dead letter."""
    value = b'{"transaction_id":"t","source":"a","target":"b","amount":"1"}'
    write(detecting, detecting.transactions_topic, value, timestamp=-(10**15))
    found = await audited(detecting, verify_settle=20)
    assert found == Findings(poison=1, dead_letters=1)


async def test_what_is_no_outcome_is_counted(log: Log) -> None:
    """Others' records in the verdict and dead-letter topics are told, and stop no audit."""
    await log.decide()
    write(log.settings, log.settings.legit_topic, b"no json", None)
    write(log.settings, log.settings.dead_letter_topic, b"other", headers=[("offset", b"x")])
    found = await audited(log.settings)
    right = Findings(transactions=50, verdicts=50, fraud=5, poison=1, dead_letters=1)
    assert found == dataclasses.replace(right, foreign=3)
    assert found.ok


async def test_a_dead_letter_s_record_may_have_any_headers(detecting: TopicSettings) -> None:
    """Names of the detector's own, names and values that are no text, and none at all."""
    headers = [("trace", b"\xff\xfe"), ("empty", None), ("offset", b"\xff"), ("topic", b"x")]
    write(detecting, detecting.transactions_topic, b"no json", headers=headers)
    await foreign.write(detecting, detecting.transactions_topic, b"no json")
    found = await audited(detecting, verify_settle=20)
    assert found == Findings(poison=2, dead_letters=2)


async def test_an_id_that_comes_again_is_owed_what_the_detector_owes_it(
    detecting: TopicSettings,
) -> None:
    """Nothing within ten minutes, a verdict of its own later; wherever the audit begins."""
    value = b'{"transaction_id":"t","source":"a","target":"b","amount":"1"}'
    begin = datetime.now(UTC) - timedelta(hours=1)
    for minute in (0, 9, 30):
        at = begin + timedelta(minutes=minute)
        write(detecting, detecting.transactions_topic, value, timestamp=_ms(at))
    found = await audited(detecting, verify_settle=20)
    assert found == Findings(transactions=2, repeats=1, verdicts=2)
    since = (begin + timedelta(minutes=5)).isoformat()
    found = await audited(detecting, verify_settle=20, verify_since=since)
    assert found == Findings(transactions=1, repeats=1, verdicts=1)


async def test_without_a_detector_everything_is_lost(log: Log) -> None:
    """Also what should have become a dead letter; and it is told how long was waited for it."""
    with capture_logs() as logged:
        assert (await audited(log.settings)).lost == 51
    assert [(each["records"], each["seconds"]) for each in logged if "records" in each] == [(51, 1)]


async def test_outcomes_that_are_there_are_read(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: the time to settle is for those that are still to come."""
    monkeypatch.setattr(command, "LIMITS", command.LIMITS._replace(total_bytes=1))
    await log.decide()
    assert (await audited(log.settings, verify_settle=0)).lost == 0


async def test_a_verdict_on_what_came_behind_the_end_is_no_fault(log: Log) -> None:
    """Written to one partition after the ends were taken, stamped before what another has."""

    def with_next(verdicts: list[Verdict]) -> list[Verdict]:
        last = max(verdicts, key=lambda each: each.received_at)
        behind = last.received_at + timedelta(seconds=30)  # half a minute before the log's end
        return [
            *verdicts,
            msgspec.structs.replace(last, transaction_id="next", received_at=behind),
        ]

    await log.decide(with_next)
    assert (await audited(log.settings)).ok


async def test_the_span_begins_where_it_is_told(log: Log) -> None:
    """From now on there is nothing in the log, and so nothing wrong."""
    await log.decide()
    assert await audited(log.settings, verify_since=datetime.now(UTC).isoformat()) == Findings()


async def drop(settings: TopicSettings, topic: str, share: float) -> None:
    """Have Kafka drop a share of each partition of a topic, the oldest records first."""
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
    async with kafka.consumer(settings) as consumer:
        ends = await consumer.end_offsets(partitions)
    admin = await kafka.start(lambda: kafka.admin(settings))
    try:
        upto = {each: RecordsToDelete(int(end * share)) for each, end in ends.items()}
        await admin.delete_records(upto)
    finally:
        await kafka.close(admin)


@pytest.mark.parametrize("topic", ["transactions_topic", "legit_topic", "fraud_topic"])
async def test_what_kafka_has_dropped_is_no_fault(log: Log, topic: str) -> None:
    """Transactions without their verdicts, or the reverse: each topic goes at its own pace."""
    await log.decide()
    await drop(log.settings, getattr(log.settings, topic), 0.6)
    found = await audited(log.settings)
    assert found.ok, found
    assert 0 < found.verdicts == found.transactions < 50


async def test_a_fault_beside_what_kafka_has_dropped_is_found(log: Log) -> None:
    """The last verdict never came, the first transactions are gone."""
    await log.decide(lambda verdicts: sorted(verdicts, key=lambda each: each.received_at)[:-1])
    await drop(log.settings, log.settings.transactions_topic, 0.3)
    found = await audited(log.settings)
    assert (found.lost, found.unknown) == (1, 0)


async def test_a_second_signal_ends_an_audit_at_once(log: Log) -> None:
    """Else one that waits for verdicts, reads for hours or has lost Kafka could only be killed."""
    given = {name.upper(): str(value) for name, value in shared(log.settings).items() if value}
    argv = ("-m", "compose", "verify", "--duration", "3600", "--settle", "3600")
    running = await asyncio.create_subprocess_exec(
        sys.executable, *argv, env=os.environ | given, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert running.stderr is not None
        assert b"auditing" in await running.stderr.readline()
        for signum in (signal.SIGINT, signal.SIGTERM):
            running.send_signal(signum)
        async with asyncio.timeout(30):
            assert await running.wait() == 130
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()
