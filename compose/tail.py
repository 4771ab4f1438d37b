"""`fraudstream tail`: verdicts in the terminal, straight from Kafka."""

import asyncio
import sys
from typing import Final

import structlog
from aiokafka import TopicPartition
from rich.text import Text

from compose.screen import PipeConsole
from compose.settings import TailSettings
from wire import access, offsets, outputs, topics
from wire.deadline import deadline
from wire.errors import MessageError
from wire.messages import Verdict, decode_verdict
from wire.records import Record
from wire.source import Limits, Source, opened

log = structlog.get_logger(__name__)
LIMITS: Final = Limits(wait_ms=500, partition_bytes=1 << 18, total_bytes=1 << 20, deadline_s=60.0)


async def tail(stream: str, settings: TailSettings) -> int:
    """Print a stream's committed verdicts until the limit is reached or the user stops it."""
    chosen = {
        "fraud": (settings.fraud_topic,),
        "legit": (settings.legit_topic,),
        "all": (settings.legit_topic, settings.fraud_topic),
    }[stream]
    counts = await topics.wait(settings, *chosen)
    partitions = [TopicPartition(topic, p) for topic in chosen for p in range(counts[topic])]
    begin = offsets.FIRST if settings.from_beginning else offsets.END
    async with opened(settings, chosen, LIMITS) as (client, source):
        with access.told(settings):
            async with deadline(LIMITS.deadline_s, "where the topics begin and end"):
                places = await offsets.since(client, partitions, begin)
            for place, offset in places.items():
                source.seek(place, offset)
            await _follow(source, settings)
    return 0


async def _follow(source: Source, settings: TailSettings) -> None:
    console = PipeConsole(highlight=False)
    left = settings.max_messages
    while left is None or left > 0:
        chunks = await source.read()
        records = sorted(
            ((chunk.place, record) for chunk in chunks for record in chunk.records),
            key=lambda each: each[1].timestamp,
        )
        for place, record in records:
            shown = _shown(place, record, settings, console)
            left = left if left is None else left - shown
            if left == 0:
                break
        sys.stdout.flush()


def _shown(
    place: TopicPartition, record: Record, settings: TailSettings, console: PipeConsole
) -> bool:
    """Print a verdict; tell of a record that is none, and give False."""
    value = record.value or b""
    try:
        verdict = decode_verdict(value)
    except MessageError:
        where = {"topic": place.topic, "partition": place.partition, "offset": record.offset}
        log.warning("no verdict", **where)
        return False
    if settings.json_lines:
        sys.stdout.buffer.write(value + b"\n")  # UTF-8, whatever the terminal has
    else:
        console.print(line(verdict), soft_wrap=True)
    return True


def line(verdict: Verdict) -> Text:
    """Put a verdict on one line: when, what, who, how much, and why."""
    fraud = verdict.decision == "fraud"
    reasons = "; ".join(
        f"{reason.rule}: {reason.detail}{' (shadow)' if reason.shadow else ''}"
        for reason in verdict.reasons
    )
    return Text.assemble(
        (verdict.decided_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "dim"),
        " ",
        (f"{verdict.decision:5}", "bold red" if fraud else "green"),
        f" {verdict.amount:>14} {verdict.currency} ",
        f"{_visible(verdict.source)} → {_visible(verdict.target)}",
        (f" {_visible(reasons)}" if reasons else "", "dim"),
    )


def _visible(text: str) -> str:
    """Keep control and format characters, which could steer the terminal, from being printed."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def run(stream: str, settings: TailSettings) -> int:
    """Tail until done, interrupted, or read no more: `tail … | head`."""
    try:
        return asyncio.run(tail(stream, settings))
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        outputs.drop(sys.stdout)
        return 0
