"""Owners of partitions, one by one: members of a group, and the writers of their partitions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from confluent_kafka import Message

from detector.batch import Outcome
from detector.requests import Membership
from detector.settings import DetectorSettings
from detector.writer import Writer
from wire import kafka, topics
from wire.settings import TopicSettings

DEADLINE_S = 40
Read = Callable[[TopicSettings, str], list[Message]]


@asynccontextmanager
async def member(settings: DetectorSettings) -> AsyncIterator[Membership]:
    """Be the only member of the group."""
    consumer = await kafka.start(
        lambda: kafka.consumer(
            settings, group_id=settings.detector_group, auto_offset_reset="earliest"
        ),
        patience=DEADLINE_S,
    )
    try:
        consumer.subscribe([settings.transactions_topic])
        async with asyncio.timeout(DEADLINE_S):
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=50)
        consumer.pause(*consumer.assignment())
        group = consumer._coordinator
        yield Membership(settings.detector_group, group.generation, group.member_id)
    finally:
        await consumer.stop()


@asynccontextmanager
async def writer_of(
    settings: DetectorSettings, partitions: list[int], membership: Membership
) -> AsyncIterator[Writer]:
    """Connect a writer of some partitions."""
    client = await kafka.start(lambda: kafka.client(settings, topics.names(settings)))
    try:
        yield Writer(settings, client, partitions, membership)
    finally:
        await kafka.close(client)


def outcome(*values: bytes) -> Outcome:
    """Give what is written for some legit verdicts."""
    return Outcome(legit=[(b"alice", value, []) for value in values])


def values(read: Read, settings: TopicSettings) -> list[bytes]:
    """Read what was committed to the legit topic."""
    return sorted(message.value() for message in read(settings, settings.legit_topic))
