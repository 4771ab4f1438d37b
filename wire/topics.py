"""The topics: their names, making them with equal partition counts, waiting for them."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from wire import access, kafka, offsets, retention
from wire.errors import TopicsError
from wire.settings import KafkaSettings, TopicSettings

log = structlog.get_logger(__name__)
CREATE_TIMEOUT_MS: Final = 30_000
WAIT_PAUSE_S: Final = 0.2
LOG_EVERY_S: Final = 5.0
MS_PER_HOUR: Final = 3_600_000
DEAD_LETTER_MAX_BYTES: Final = 1_048_588 + 65_536
"""Largest dead letter: Kafka's default for other records, and room for its headers."""


def names(settings: KafkaSettings) -> tuple[str, str, str, str]:
    """Give the four topics: transactions, legit, fraud, dead letters."""
    return (
        settings.transactions_topic,
        settings.legit_topic,
        settings.fraud_topic,
        settings.dead_letter_topic,
    )


async def ensure(settings: TopicSettings, *, patience: float | None = None) -> dict[str, int]:
    """Make the topics that are missing; give each topic's partition count.

    Topics that are there are left as they are; a warning says so where other partitions were
    asked for. An account's records stay in order only where all four have the same number of
    partitions, so a difference is an error.

    Raises:
        TopicsError: the cluster refuses, or the partition counts differ.
        BrokerUnreachableError: no broker answered within `patience` (seconds; None: for ever).
        AccessError: Kafka does not let us in, or not make or see a topic.
    """
    client = await kafka.start(lambda: kafka.admin(settings), patience=patience, settings=settings)
    try:
        made = await _create(client, settings)
        counts = await _all_counts(client, settings)
        if made:
            await _led(settings, counts)
        await retention.check(client, settings.transactions_topic)
    except (KafkaError, TimeoutError) as error:
        brokers = ", ".join(kafka.advertised(client))
        raise TopicsError(f"the topics can't be made: {error} (brokers: {brokers})") from error
    finally:
        await kafka.close(client)
    if len(set(counts.values())) != 1:
        raise TopicsError(f"the topics differ in their number of partitions: {counts}")
    found, wanted = counts[settings.transactions_topic], settings.partitions
    if "partitions" in settings.model_fields_set and found != wanted:
        log.warning("the topics keep the partitions that they have", found=found, wanted=wanted)
    return counts


async def wait(settings: KafkaSettings, *topics: str) -> dict[str, int]:
    """Wait until the topics are there, logging while they are not; give their partition counts.

    Raises:
        AccessError: Kafka does not let us in, or not see a topic.
    """
    client = await kafka.start(lambda: kafka.admin(settings), settings=settings)
    loop = asyncio.get_running_loop()
    next_line = loop.time()
    try:
        while True:
            counts: dict[str, int] = {}
            failure = None
            try:
                counts = await _partition_counts(client, settings, topics)
            except (KafkaError, OSError) as error:
                failure = str(error) or repr(error)
            if len(counts) == len(topics):
                return counts
            if loop.time() >= next_line:
                if failure:
                    brokers = kafka.advertised(client)
                    log.warning("waiting for kafka", error=failure, brokers=brokers)
                else:
                    missing = sorted(set(topics) - counts.keys())
                    log.warning("waiting for topics", missing=missing)
                next_line = loop.time() + LOG_EVERY_S
            await asyncio.sleep(WAIT_PAUSE_S)
    finally:
        await kafka.close(client)


async def _create(client: AIOKafkaAdminClient, settings: TopicSettings) -> bool:
    """Make the topics that are missing; tell whether there were any."""
    config = {
        "retention.ms": str(settings.retention_hours * MS_PER_HOUR),
        "min.insync.replicas": str(settings.min_insync_replicas),
        # Windows and verdicts go by the record's timestamp, which the gateway sets.
        "message.timestamp.type": "CreateTime",
    }
    # A dead letter is the record as it was and a few headers: it may be larger than any record.
    roomy = config | {"max.message.bytes": str(DEAD_LETTER_MAX_BYTES)}
    # Those that are there are not asked for: who may not make topics can still check them.
    there = await _partition_counts(client, settings, names(settings))
    wanted = [
        NewTopic(
            name,
            settings.partitions,
            settings.replication,
            topic_configs=roomy if name == settings.dead_letter_topic else config,
        )
        for name in names(settings)
        if name not in there
    ]
    for name in there:
        log.info("topic is there", topic=name, made_now=False)
    if not wanted:
        return False
    replication, in_sync = settings.replication, settings.min_insync_replicas
    if in_sync > replication:  # Kafka would make such a topic
        raise TopicsError(
            f"MIN_INSYNC_REPLICAS={in_sync} is more than REPLICATION={replication}: a topic so "
            "made would take no record"
        )
    response = await client.create_topics(wanted, timeout_ms=CREATE_TIMEOUT_MS)
    for topic, code, *rest in response.topic_errors:
        error = for_code(code)
        if error is TopicAuthorizationFailedError:
            raise access.lacks(settings, f"Create on topic {topic}")
        if code and error is not TopicAlreadyExistsError:
            raise TopicsError(f"topic {topic}: {error.__name__}: {rest[0] if rest else ''}")
        log.info("topic is there", topic=topic, made_now=not code)
    return True


async def _led(settings: TopicSettings, counts: Mapping[str, int]) -> None:
    """Wait until the brokers know what they lead: they learn it after the controller has answered.

    Until then a partition refuses records. An idempotent producer with several requests under way
    may lose some by that: the first is refused, the second taken, and the first one's retry is a
    duplicate to the broker, which librdkafka reports as delivered.
    """
    places = [TopicPartition(name, number) for name in counts for number in range(counts[name])]
    async with asyncio.timeout(CREATE_TIMEOUT_MS / 1000):
        client = await kafka.start(lambda: kafka.client(settings, list(counts)), settings=settings)
        try:
            await offsets.since(client, places, offsets.END)
        finally:
            await kafka.close(client)


async def _all_counts(client: AIOKafkaAdminClient, settings: KafkaSettings) -> dict[str, int]:
    """Give the counts once every topic has its leaders: one made just now has none for a moment."""
    wanted = names(settings)
    async with asyncio.timeout(CREATE_TIMEOUT_MS / 1000):
        # Kafka does not tell: ASYNC110 can't be had.
        while len(counts := await _partition_counts(client, settings, wanted)) < len(wanted):  # noqa: ASYNC110
            await asyncio.sleep(WAIT_PAUSE_S)
        return counts


async def _partition_counts(
    client: AIOKafkaAdminClient, settings: KafkaSettings, topics: tuple[str, ...]
) -> dict[str, int]:
    described: list[dict[str, Any]] = await client.describe_topics(list(topics))
    refused = [
        topic["topic"]
        for topic in described
        if topic["error_code"] == TopicAuthorizationFailedError.errno
    ]
    if refused:
        raise access.lacks(settings, f"Describe on topic {', '.join(sorted(refused))}")
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in described
        if not topic["error_code"]
        and topic["partitions"]
        and all(partition["leader"] >= 0 for partition in topic["partitions"])
    }
