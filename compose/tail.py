"""`fraudstream tail`: verdicts in the terminal, straight from Kafka."""

import asyncio
import sys

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from rich.console import Console
from rich.text import Text

from compose.settings import TailSettings
from wire import access, kafka, topics
from wire.errors import MessageError
from wire.messages import Verdict, decode_verdict

log = structlog.get_logger(__name__)
POLL_MS = 500


async def tail(stream: str, settings: TailSettings) -> int:
    """Print a stream's committed verdicts until the limit is reached or the user stops it."""
    chosen = {
        "fraud": (settings.fraud_topic,),
        "legit": (settings.legit_topic,),
        "all": (settings.legit_topic, settings.fraud_topic),
    }[stream]
    counts = await topics.wait(settings, *chosen)
    partitions = [TopicPartition(topic, p) for topic in chosen for p in range(counts[topic])]
    consumer = await kafka.start(lambda: kafka.consumer(settings))
    try:
        consumer.assign(partitions)
        if settings.from_beginning:
            await consumer.seek_to_beginning()
        else:
            await consumer.seek_to_end()
        with access.told(settings):
            await _follow(consumer, settings)
    finally:
        await kafka.close(consumer)
    return 0


async def _follow(consumer: AIOKafkaConsumer, settings: TailSettings) -> None:
    console = Console(highlight=False)
    left = settings.max_messages
    while left is None or left > 0:
        fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=left)
        records = sorted(
            (record for batch in fetched.values() for record in batch),
            key=lambda record: record.timestamp,
        )
        shown = sum(_shown(record, settings, console) for record in records)
        sys.stdout.flush()
        left = left if left is None else left - shown


def _shown(record: ConsumerRecord, settings: TailSettings, console: Console) -> bool:
    """Print a verdict; tell of a record that is none, and give False."""
    value = record.value or b""
    try:
        verdict = decode_verdict(value)
    except MessageError:
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        log.warning("no verdict", **where)
        return False
    if settings.json_lines:
        sys.stdout.write(value.decode(errors="replace") + "\n")
    else:
        console.print(line(verdict), soft_wrap=True)
    return True


def line(verdict: Verdict) -> Text:
    """Put a verdict on one line: when, what, who, how much, and why."""
    fraud = verdict.decision == "fraud"
    reasons = "; ".join(f"{reason.rule}: {reason.detail}" for reason in verdict.reasons)
    return Text.assemble(
        (f"{verdict.decided_at:%H:%M:%S.%f}"[:-3], "dim"),
        " ",
        (f"{verdict.decision:5}", "bold red" if fraud else "green"),
        f" {verdict.amount:>14} {verdict.currency} ",
        f"{_visible(verdict.source)} → {_visible(verdict.target)} ",
        (_visible(reasons), "dim"),
    )


def _visible(text: str) -> str:
    """Keep control and format characters, which could steer the terminal, from being printed."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def run(stream: str, settings: TailSettings) -> int:
    """Tail until done or interrupted."""
    try:
        return asyncio.run(tail(stream, settings))
    except KeyboardInterrupt:
        return 0
