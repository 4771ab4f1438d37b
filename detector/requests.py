"""The requests of exactly-once processing, made ready to send, in the versions it needs."""

from io import BytesIO
from typing import Final, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.api import RequestStruct
from aiokafka.protocol.types import CompactArray, CompactString, Int16, TaggedFields

from detector.protocol import (
    ApiVersions3,
    DescribeTransactions0,
    EndTxn5,
    OffsetFetch7,
    TxnOffsetCommit3,
    TxnOffsetCommit5,
)
from wire.produce import ALL_IN_SYNC, NO_TAGS, Appended, version_12

_SOFTWARE: Final = ("fraudstream", "1")
_FEATURE: Final = "transaction.version"
_FINALIZED: Final = 2
"""Tag of the finalized features in the ApiVersions response."""
_Features: Final = CompactArray(
    ("name", CompactString("utf-8")), ("most", Int16), ("least", Int16), ("tags", TaggedFields)
)


class Membership(NamedTuple):
    """A process's place in its group, as of one assignment."""

    group: str
    generation: int
    member_id: str


class Producer(NamedTuple):
    """Who writes: a transactional id, and the id and epoch that the coordinator gave it."""

    transactional_id: str
    producer_id: int
    epoch: int


async def speaks_version_2(client: AIOKafkaClient) -> bool:
    """Tell if the cluster has transactions version 2 switched on."""
    try:
        answer = await client.send(client.get_random_node(), _Features3())
    except IncompatibleBrokerVersion:
        return False
    found = answer.tags.get(_FINALIZED)
    levels = _Features.decode(BytesIO(found)) if found else []
    return any(name == _FEATURE and level >= 2 for name, level, *_ in levels or ())  # noqa: PLR2004


class _Features3(ApiVersionRequest):  # type: ignore[misc]
    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        if versions.get(self.API_KEY, (0, 0))[1] < ApiVersions3.API_VERSION:
            raise IncompatibleBrokerVersion("ApiVersions 3 is needed")
        return ApiVersions3(*_SOFTWARE, NO_TAGS)


class Exactly:
    """A request in just this version."""

    def __init__(self, request: RequestStruct) -> None:
        self._request = request
        self.required_acks = ALL_IN_SYNC

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """Give what goes over the wire.

        Raises:
            IncompatibleBrokerVersion: the broker does not know this version.
        """
        key, version = self._request.API_KEY, self._request.API_VERSION
        least, most = versions.get(key, (0, -1))
        if not least <= version <= most:
            raise IncompatibleBrokerVersion(f"request {key} is needed in version {version}")
        return self._request


def produce(producer: Producer, timeout_ms: int, topics: Appended) -> Exactly:
    """Append a record batch to each partition, acks=all, in version 2 of the transactions."""
    return Exactly(version_12(producer.transactional_id, timeout_ms, topics))


def commit_offsets(
    producer: Producer, membership: Membership, topic: str, offsets: dict[int, int], *, version: int
) -> Exactly:
    """Make a group's offsets part of the transaction, if the member is still in that generation."""
    entries = [(partition, offset, -1, "", NO_TAGS) for partition, offset in offsets.items()]
    struct = TxnOffsetCommit5 if version == 5 else TxnOffsetCommit3  # noqa: PLR2004
    return Exactly(
        struct(
            producer.transactional_id,
            membership.group,
            producer.producer_id,
            producer.epoch,
            membership.generation,
            membership.member_id,
            None,
            [(topic, entries, NO_TAGS)],
            NO_TAGS,
        )
    )


def end(producer: Producer, *, committed: bool) -> Exactly:
    """Commit the transaction or roll it back, in version 2 of the transactions."""
    return Exactly(
        EndTxn5(producer.transactional_id, producer.producer_id, producer.epoch, committed, NO_TAGS)
    )


def describe(transactional_id: str) -> Exactly:
    """Ask what the coordinator knows of the id's last transaction."""
    return Exactly(DescribeTransactions0([transactional_id], NO_TAGS))


def stable_offsets(group: str, topic: str, partitions: list[int]) -> Exactly:
    """Ask for a group's offsets; an error where an open transaction may yet change one."""
    return Exactly(OffsetFetch7(group, [(topic, partitions, NO_TAGS)], True, NO_TAGS))
