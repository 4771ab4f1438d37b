"""The request that appends record batches to partitions, in the versions that matter.

Version 12 (Kafka 4.0, KIP-890) adds partitions to a transaction by itself; aiokafka knows up to 7.
"""

from typing import Any, Final

from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

Appended = dict[str, list[tuple[int, bytearray]]]
"""By topic: partition and record batch, built."""
MAX_SEQUENCE: Final = 2**31 - 1
"""Sequence numbers of a producer's records go round beyond it."""
ALL_IN_SYNC: Final = -1
"""acks=all."""
NO_TAGS: Final[dict[int, bytes]] = {}

_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)


class _ProduceResponse12(Response):  # type: ignore[misc] # untyped library
    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        (
            "responses",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("offset", Int64),
                        ("timestamp", Int64),
                        ("log_start_offset", Int64),
                        ("record_errors", CompactArray(("index", Int32), ("text", _TEXT), _TAGS)),
                        ("error_message", _TEXT),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("throttle_time_ms", Int32),
        _TAGS,
    )

    @property
    def topics(self) -> list[tuple[str, list[tuple[Any, ...]]]]:
        """The answers as in version 8."""
        return [(topic, [entry[:-1] for entry in entries]) for topic, entries, _ in self.responses]


class Produce12(RequestStruct):  # type: ignore[misc]
    """Version 12; a broker that knows it knows transactions version 2."""

    FLEXIBLE_VERSION = True
    API_KEY = 0
    API_VERSION = 12
    RESPONSE_TYPE = _ProduceResponse12
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("acks", Int16),
        ("timeout_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("records", CompactBytes), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    def encode(self) -> bytes:
        """Give the bytes, putting them together once: the schema's way copies records six times."""
        parts = [
            _TEXT.encode(self.transactional_id),
            Int16.encode(self.acks),
            Int32.encode(self.timeout_ms),
            UnsignedVarInt32.encode(len(self.topics) + 1),
        ]
        no_tags = TaggedFields.encode(NO_TAGS)
        for topic, partitions, _ in self.topics:
            parts += (_TEXT.encode(topic), UnsignedVarInt32.encode(len(partitions) + 1))
            for partition, records, _ in partitions:
                size = UnsignedVarInt32.encode(len(records) + 1)
                parts += (Int32.encode(partition), size, records, no_tags)
            parts.append(no_tags)
        parts.append(no_tags)
        return b"".join(parts)


def version_12(transactional_id: str | None, timeout_ms: int, topics: Appended) -> Produce12:
    """Make the request, acks=all, in version 12."""
    tagged = [
        (topic, [(partition, records, NO_TAGS) for partition, records in entries], NO_TAGS)
        for topic, entries in topics.items()
    ]
    return Produce12(transactional_id, ALL_IN_SYNC, timeout_ms, tagged, NO_TAGS)


class Produce:
    """Appends outside of transactions, acks=all, in the best version that the broker knows."""

    required_acks = ALL_IN_SYNC

    def __init__(self, timeout_ms: int, topics: Appended) -> None:
        self._timeout_ms = timeout_ms
        self._topics = topics

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """Give what goes over the wire.

        Args:
            versions: by request, the least and the last that the broker knows.
        """
        least, most = versions.get(Produce12.API_KEY, (0, 0))
        if least <= Produce12.API_VERSION <= most:
            return version_12(None, self._timeout_ms, self._topics)
        older = ProduceRequest(None, ALL_IN_SYNC, self._timeout_ms, list(self._topics.items()))
        return older.prepare(versions)
