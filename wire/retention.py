"""Retention: whether Kafka keeps a group's offsets for longer than the records they point into.

It drops those of a group without members after `offsets.retention.minutes`, a week unless set. A
detector that comes back later finds none, and decides once more on all that the log still has.
"""

from typing import Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

log = structlog.get_logger(__name__)
MS_PER_MINUTE: Final = 60_000
FOR_EVER: Final = -1
_OFFSETS: Final = "offsets.retention.minutes"
_RECORDS: Final = "retention.ms"


async def check(client: AIOKafkaAdminClient, topic: str) -> None:
    """Warn if offsets into a topic may be gone before its records; silent where we can't know.

    That takes the right to see the configuration of the topic and of the brokers.
    """
    try:
        # Of one that leads some of it: to ask for the cluster's brokers asks for all its topics.
        (described,) = await client.describe_topics([topic])
        node = str(max(each["leader"] for each in described["partitions"]))  # -1: has none now
        broker = ConfigResource(ConfigResourceType.BROKER, node, {_OFFSETS: None})
        records = ConfigResource(ConfigResourceType.TOPIC, topic, {_RECORDS: None})
        answers = await client.describe_configs([broker, records])
    except (KafkaError, OSError, LookupError) as error:
        log.debug("retention is not known", topic=topic, error=repr(error))
        return
    found = {
        name: int(value)
        for answer in answers
        for _code, _message, _kind, _name, entries in answer.resources
        for name, value, *_ in entries
        if value  # one that is kept secret has none
    }
    if found.keys() < {_OFFSETS, _RECORDS}:
        return
    offsets_ms, records_ms = found[_OFFSETS] * MS_PER_MINUTE, found[_RECORDS]
    # Not at the same length either: a record goes with its segment, after its time.
    if records_ms == FOR_EVER or offsets_ms <= records_ms:
        log.warning(
            "a group's offsets may be gone before the records: after a longer pause, a detector"
            " would decide on these again; set offsets.retention.minutes higher on the brokers",
            topic=topic,
            offsets_retention_minutes=found[_OFFSETS],
            retention_ms=records_ms,
        )
