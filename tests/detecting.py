"""Detectors in the test's event loop: what they are given, and what they make of it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka import Message

from detector.rulesfile import RulesSource
from detector.service import Detector
from detector.settings import DetectorSettings
from wire import kafka
from wire.messages import Transaction, Verdict, decode_verdict, encode
from wire.settings import TopicSettings

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
        while not condition():
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
