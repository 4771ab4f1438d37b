"""Kafka's transactions, step by step: take an id over, append, add the offsets, commit.

aiokafka's own transactional producer sends from a background task and sleeps 20 or 100 ms on
answers that belong to the ordinary course of things; a detector's batch is one straight line of
requests. So they are sent here, one after the other, over aiokafka's client. What the cluster will
accept a moment later is asked again at once, each time slower in turn. All else is told to the
caller, whose only way on is to take its id over again: that rolls back whatever was left open.

No step has a limit of its own: the caller sets one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)

from detector import requests
from detector.errors import AbortedError, FencedError
from detector.records import RecordBatch
from detector.requests import Membership, Producer
from wire.produce import MAX_SEQUENCE

FIRST_PAUSE_S: Final = 0.001
LONGEST_PAUSE_S: Final = 0.5
BACKOFF_S: Final = 0.1
"""Pause after an answer that does not belong to the ordinary course of things."""

_EXPECTED: Final = {
    51,  # CONCURRENT_TRANSACTIONS: the coordinator still finishes the last transaction
    19,  # NOT_ENOUGH_REPLICAS: the broker still verifies an older client's transaction
    15,  # COORDINATOR_NOT_AVAILABLE: the same, for offsets
    88,  # UNSTABLE_OFFSET_COMMIT: an open transaction may yet change the offset
}
_LOST: Final = {15, 16}  # COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR
_FENCED: Final = {
    47: "a later epoch",  # INVALID_PRODUCER_EPOCH
    90: "a later producer",  # PRODUCER_FENCED
    22: "a later generation of the group",  # ILLEGAL_GENERATION
    25: "the group has let this member go",  # UNKNOWN_MEMBER_ID
    82: "another member of the same name",  # FENCED_INSTANCE_ID
}
_TOPIC_REFUSED, _ID_REFUSED = 29, 53  # of TOPIC and TRANSACTIONAL_ID, AUTHORIZATION_FAILED
_NAMES: Final = {120: "TRANSACTION_ABORTABLE", 88: "UNSTABLE_OFFSET_COMMIT"}

Ask = Callable[[], Awaitable[Any]]


class Transactions:
    """One transactional producer, and the offsets of its group."""

    def __init__(self, client: AIOKafkaClient, topic: str, group: str) -> None:
        """Make it.

        Args:
            client: connected.
            topic: what the group reads.
            group: whose offsets go with the records.
        """
        self._client = client
        self._topic = topic
        self._group = group
        self._version_2 = False
        self._coordinators: dict[tuple[int, str], int] = {}
        self._producer = Producer("", -1, -1)
        self._sequences: dict[TopicPartition, int] = {}

    async def take(self, ids: Sequence[str], timeout_ms: int) -> None:
        """Take over these transactional ids: fence whoever has them, settle what is left open.

        The first one is used from now on; its records are open for `timeout_ms` at most.
        """
        self._version_2 = await requests.speaks_version_2(self._client)
        taken = await asyncio.gather(*(self._take(each, timeout_ms) for each in ids))
        self._producer = taken[0]
        self._sequences.clear()

    async def stable_offsets(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Give the group's offsets, once no open transaction can change them; None where none."""

        async def ask() -> Any:
            node = await self._coordinator(CoordinationType.GROUP, self._group)
            request = requests.stable_offsets(self._group, self._topic, list(partitions))
            return await self._client.send(node, request)

        answer = await self._accepted(
            ask, lambda it: self._closed(_offset_codes(it)), _offset_codes
        )
        found = {each[0]: each[1] for _, entries, _ in answer.topics for each in entries}
        return {each: None if found.get(each, -1) < 0 else found[each] for each in partitions}

    async def append(self, batches: Mapping[TopicPartition, RecordBatch]) -> None:
        """Append a batch to each of these partitions, acks=all."""
        if not self._version_2:
            await self._add_partitions(batches)
        built = {}
        for place, batch in batches.items():
            sequence = self._sequences.get(place, 0)
            self._sequences[place] = (sequence + batch.count) & MAX_SEQUENCE
            built[place] = batch.build(self._producer, sequence)

        async def ask() -> list[Any]:
            asked = (self._produce(node, part) for node, part in self._by_leader(built).items())
            return await asyncio.gather(*asked)

        await self._accepted(
            ask,
            lambda answers: set().union(*map(_refused_topics, answers)),
            lambda answers: set().union(*map(_codes, answers)),
        )

    async def add_offsets(self, offsets: Mapping[int, int], membership: Membership) -> None:
        """Add the offsets to go on from, by partition, as a member of the group."""
        if not self._version_2:
            request = AddOffsetsToTxnRequest(*self._producer, self._group)
            await self._coordinated(request, lambda answer: {answer.error_code})

        async def ask() -> Any:
            node = await self._coordinator(CoordinationType.GROUP, self._group)
            request = requests.commit_offsets(
                self._producer,
                membership,
                self._topic,
                dict(offsets),
                version=5 if self._version_2 else 3,
            )
            return await self._client.send(node, request)

        await self._accepted(ask, lambda answer: self._closed(_codes(answer)), _codes)

    async def commit(self) -> None:
        """Commit all of it."""
        if not self._version_2:
            request = EndTxnRequest(*self._producer, True)
            await self._coordinated(request, lambda answer: {answer.error_code})
            return
        answer = await self._coordinated(
            requests.commit(self._producer), lambda answer: {answer.error_code}
        )
        name = self._producer.transactional_id
        self._producer = Producer(name, answer.producer_id, answer.producer_epoch)
        self._sequences.clear()

    def _closed(self, codes: set[int]) -> str:
        """Tell what it is that the group's coordinator refuses access to by these codes."""
        if _ID_REFUSED in codes:
            return self._producer.transactional_id
        return self._topic if _TOPIC_REFUSED in codes else self._group

    async def _take(self, transactional_id: str, timeout_ms: int) -> Producer:
        request = InitProducerIdRequest(transactional_id, timeout_ms)
        answer = await self._coordinated(request, lambda it: {it.error_code}, transactional_id)
        return Producer(transactional_id, answer.producer_id, answer.producer_epoch)

    async def _add_partitions(self, places: Iterable[TopicPartition]) -> None:
        by_topic: dict[str, list[int]] = {}
        for place in places:
            by_topic.setdefault(place.topic, []).append(place.partition)
        request = AddPartitionsToTxnRequest(*self._producer, list(by_topic.items()))
        await self._coordinated(request, lambda it: {each[1] for _, es in it.errors for each in es})

    async def _coordinated(
        self, request: Any, codes: Callable[[Any], set[int]], transactional_id: str = ""
    ) -> Any:
        """Ask the coordinator of an id's transactions; of the producer's own if none is named."""
        name = transactional_id or self._producer.transactional_id

        async def ask() -> Any:
            node = await self._coordinator(CoordinationType.TRANSACTION, name)
            return await self._client.send(node, request)

        return await self._accepted(ask, lambda _: name, codes)

    async def _coordinator(self, kind: CoordinationType, name: str) -> int:
        node = self._coordinators.get((kind, name))
        while node is None:
            try:
                node = await self._client.coordinator_lookup(kind, name)
            except KafkaError as error:
                if not error.retriable:
                    raise type(error)(name) from error
                await asyncio.sleep(BACKOFF_S)
        self._coordinators[kind, name] = node
        return node

    def _by_leader(
        self, built: Mapping[TopicPartition, bytearray]
    ) -> dict[int, dict[TopicPartition, bytearray]]:
        by_leader: dict[int, dict[TopicPartition, bytearray]] = {}
        for place, records in built.items():
            leader = self._client.cluster.leader_for_partition(place)
            # An unknown leader's partition goes to any broker, which says who leads it.
            node = self._client.get_random_node() if leader in (None, -1) else leader
            by_leader.setdefault(node, {})[place] = records
        return by_leader

    async def _produce(self, node: int, built: Mapping[TopicPartition, bytearray]) -> Any:
        by_topic: dict[str, list[tuple[int, bytearray]]] = {}
        for place, records in built.items():
            by_topic.setdefault(place.topic, []).append((place.partition, records))
        timeout_ms: int = self._client._request_timeout_ms  # noqa: SLF001 - it has no other name
        if self._version_2:
            request: Any = requests.produce(self._producer, timeout_ms, by_topic)
        else:
            name = self._producer.transactional_id
            request = ProduceRequest(name, -1, timeout_ms, list(by_topic.items()))
        return await self._client.send(node, request)

    async def _accepted(
        self, ask: Ask, of: Callable[[Any], object], codes: Callable[[Any], set[int]]
    ) -> Any:
        """Ask until the answer is no refusal that will pass.

        Args:
            ask: sends the request.
            of: gives what an answer refuses access to, if it does.
            codes: gives an answer's error codes.

        Raises:
            FencedError: somebody else has taken over.
            AbortedError: refused for good.
        """
        pause = FIRST_PAUSE_S
        while True:
            answer = await ask()
            refused = codes(answer) - {0}
            if not refused:
                return answer
            _check(refused, of(answer))
            if refused & _LOST:
                self._coordinators.clear()
            if not refused <= _EXPECTED:
                pause = max(pause, BACKOFF_S)
                await self._client.force_metadata_update()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


def _check(refused: set[int], of: object) -> None:
    for code in refused:
        if code in _FENCED:
            raise FencedError(f"fenced: {_FENCED[code]}")
    for code in refused - _EXPECTED:
        error = for_code(code)
        if not error.retriable:
            text = f"rolled back: {_NAMES.get(code, error.__name__)} ({code})"
            raise AbortedError(text) from error(of)


def _codes(answer: Any) -> set[int]:
    topics = answer.errors if hasattr(answer, "errors") else answer.topics
    return {entry[1] for _, entries in topics for entry in entries}


def _offset_codes(answer: Any) -> set[int]:
    return {answer.error_code} | {entry[4] for _, found, _ in answer.topics for entry in found}


def _refused_topics(answer: Any) -> set[str]:
    return {topic for topic, entries in answer.topics if any(entry[1] for entry in entries)}
