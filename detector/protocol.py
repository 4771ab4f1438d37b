"""The requests of Kafka's transactions version 2 (KIP-890) that aiokafka does not know.

With them, a broker adds partitions and groups to a transaction when they are first written to, so
that AddPartitionsToTxn and AddOffsetsToTxn fall away: three round trips where there were five. And
the end of each transaction raises the producer's epoch, so that nothing late can get into the next.

Only the wire formats are here, in the versions that belong together: Produce 12, TxnOffsetCommit 5,
EndTxn 5, and ApiVersions 3 to learn if the cluster has the feature switched on.
"""

from io import BytesIO
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

TRANSACTION_ABORTABLE: Final = 120
"""Error code: this transaction can only be rolled back."""
PRODUCER_FENCED: Final = 90
"""Error code: a later producer has this transactional id."""

_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_NONE: Final[dict[int, bytes]] = {}
_SOFTWARE: Final = ("fraudstream", "1")
_FEATURE: Final = "transaction.version"
_FINALIZED: Final = 2
"""Tag of the finalized features in the ApiVersions response."""
_Features: Final = CompactArray(("name", _TEXT), ("max_level", Int16), ("min_level", Int16), _TAGS)


async def speaks_version_2(client: AIOKafkaClient) -> bool:
    """Tell if the cluster has transactions version 2 switched on."""
    try:
        answer = await client.send(client.get_random_node(), _Features3())
    except IncompatibleBrokerVersion:
        return False
    found = answer.tags.get(_FINALIZED)
    levels = _Features.decode(BytesIO(found)) if found else []
    return any(name == _FEATURE and level >= 2 for name, level, *_ in levels or ())  # noqa: PLR2004


class _ApiVersionsResponse3(Response):  # type: ignore[misc] # untyped library
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_keys", CompactArray(("key", Int16), ("least", Int16), ("most", Int16), _TAGS)),
        ("throttle_time_ms", Int32),
        _TAGS,
    )


class _ApiVersions3(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = _ApiVersionsResponse3
    SCHEMA = Schema(("software_name", _TEXT), ("software_version", _TEXT), _TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> ResponseHeader_v0:
        # The one response whose header has no tags in any version: old clients must read it.
        return ResponseHeader_v0.decode(read_buffer)


class _Features3(ApiVersionRequest):  # type: ignore[misc]
    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        if versions.get(self.API_KEY, (0, 0))[1] < _ApiVersions3.API_VERSION:
            raise IncompatibleBrokerVersion("ApiVersions 3 is needed")
        return _ApiVersions3(*_SOFTWARE, _NONE)


class _ProduceResponse12(Response):  # type: ignore[misc]
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


class _Produce12(RequestStruct):  # type: ignore[misc]
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

    def __init__(self, transactional_id: str, acks: int, timeout_ms: int, topics: Any) -> None:
        tagged = [
            (topic, [(partition, bytes(records), _NONE) for partition, records in entries], _NONE)
            for topic, entries in topics
        ]
        super().__init__(transactional_id, acks, timeout_ms, tagged, _NONE)


class _TxnOffsetCommitResponse5(Response):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            CompactArray(
                ("topic", _TEXT),
                ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    @property
    def errors(self) -> list[tuple[str, list[tuple[int, int]]]]:
        """The answers as in version 0."""
        return [(topic, [entry[:-1] for entry in entries]) for topic, entries, _ in self.responses]


class _TxnOffsetCommit5(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 28
    API_VERSION = 5
    RESPONSE_TYPE = _TxnOffsetCommitResponse5
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    def __init__(
        self, transactional_id: str, group: str, producer_id: int, epoch: int, topics: Any
    ) -> None:
        tagged = [
            (topic, [(partition, offset, -1, note, _NONE) for partition, offset, note in p], _NONE)
            for topic, p in topics
        ]
        # Of no generation and no member: the epoch alone fences here.
        super().__init__(transactional_id, group, producer_id, epoch, -1, "", None, tagged, _NONE)


class _EndTxnResponse5(Response):  # type: ignore[misc]
    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    )


class _EndTxn5(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 26
    API_VERSION = 5
    RESPONSE_TYPE = _EndTxnResponse5
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("committed", Boolean),
        _TAGS,
    )

    def __init__(
        self, transactional_id: str, producer_id: int, epoch: int, committed: bool
    ) -> None:
        super().__init__(transactional_id, producer_id, epoch, bool(committed), _NONE)


_STRUCTS: Final = {struct.API_KEY: struct for struct in (_Produce12, _TxnOffsetCommit5, _EndTxn5)}


class Version2:
    """One of aiokafka's requests, in the version that belongs to transactions version 2."""

    def __init__(self, request: Any) -> None:
        self.required_acks = -1
        self._request = request

    def prepare(self, _versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """Give what goes over the wire; a cluster with the feature knows it."""
        return self._request.build(_STRUCTS[self._request.API_KEY])
