"""Auditing in tests: the log of a test's topics, and what is written there beside the parts."""

from typing import Any

from confluent_kafka import Producer

from loadgen.verify import command
from loadgen.verify.audit import Findings
from loadgen.verify.settings import VerifySettings
from wire.settings import KafkaSettings, TopicSettings


def shared(settings: TopicSettings) -> dict[str, Any]:
    """What other parts' settings take over."""
    return {name: getattr(settings, name) for name in KafkaSettings.model_fields}


async def audited(settings: TopicSettings, **given: Any) -> Findings:
    """Audit the log from the beginning."""
    found = VerifySettings(**(shared(settings) | {"verify_settle": 1} | given))
    return await command.audited(found)


def write(settings: TopicSettings, topic: str, *values: bytes | None, **given: Any) -> None:
    """Write records with a client of another make."""
    producer = Producer({"bootstrap.servers": settings.kafka_broker_url, "log_level": 0})
    for value in values:
        producer.produce(topic, value, b"key", **given)
    assert producer.flush(20) == 0
