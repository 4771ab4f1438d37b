"""Kafka's coordinators, of groups and of transactions: found, asked, and asked again.

What the cluster will accept a moment later is asked again at once, each time slower in turn. All
else is told to the caller. No step has a limit of its own: the caller sets one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
)

from detector import requests
from detector.errors import AbortedError, FencedError
from detector.requests import Producer

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
_TOPIC_REFUSED, _GROUP_REFUSED = 29, 30  # of TOPIC and GROUP, AUTHORIZATION_FAILED
_NAMES: Final = {120: "TRANSACTION_ABORTABLE", 88: "UNSTABLE_OFFSET_COMMIT"}

Ask = Callable[[], Awaitable[Any]]


class Coordinators:
    """The coordinators of a cluster, by what they coordinate."""

    def __init__(self, client: AIOKafkaClient) -> None:
        """Make it over a connected client."""
        self._client = client
        self._nodes: dict[tuple[CoordinationType, str], int] = {}
        self.version_2 = False
        """Does the cluster have transactions version 2? Known after `look`."""

    async def look(self) -> None:
        """See which transactions the cluster has."""
        self.version_2 = await requests.speaks_version_2(self._client)

    async def of_group(self, group: str, request: Any) -> Any:
        """Send a request to a group's coordinator; give its answer, whatever it is."""
        return await self._send(CoordinationType.GROUP, group, request)

    async def of_transactions(self, transactional_id: str, request: Any) -> Any:
        """Send a request to the coordinator of an id's transactions; give its answer."""
        return await self._send(CoordinationType.TRANSACTION, transactional_id, request)

    async def add_partitions(self, producer: Producer, places: Iterable[TopicPartition]) -> None:
        """Make partitions part of the producer's transaction, before they are written to."""
        by_topic: dict[str, list[int]] = {}
        for place in places:
            by_topic.setdefault(place.topic, []).append(place.partition)
        request = AddPartitionsToTxnRequest(*producer, list(by_topic.items()))
        await self._of(producer, request, partition_codes, _refused_topics)

    async def add_group(self, producer: Producer, group: str) -> None:
        """Make a group's offsets part of the producer's transaction, before they are committed."""
        request = AddOffsetsToTxnRequest(*producer, group)

        def refused(answer: Any) -> object:
            return group if error_code(answer) == {_GROUP_REFUSED} else None

        await self._of(producer, request, error_code, refused)

    async def end(self, producer: Producer, *, committed: bool) -> Producer:
        """Commit the producer's transaction or roll it back; give who makes the next one."""
        if not self.version_2:
            request: Any = EndTxnRequest(*producer, committed)
            await self._of(producer, request, error_code, _no_other)
            return producer
        request = requests.end(producer, committed=committed)
        answer = await self._of(producer, request, error_code, _no_other)
        return producer._replace(producer_id=answer.producer_id, epoch=answer.producer_epoch)

    async def accepted(
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
                self._nodes.clear()
            if not refused <= _EXPECTED:
                pause = max(pause, BACKOFF_S)
                await self._client.force_metadata_update()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _of(
        self,
        producer: Producer,
        request: Any,
        codes: Callable[[Any], set[int]],
        of: Callable[[Any], object],
    ) -> Any:
        """Ask for a producer; what `of` does not name, access was refused to the id."""
        name = producer.transactional_id
        return await self.accepted(
            lambda: self.of_transactions(name, request), lambda it: of(it) or name, codes
        )

    async def _send(self, kind: CoordinationType, name: str, request: Any) -> Any:
        node = self._nodes.get((kind, name))
        while node is None:
            try:
                node = await self._client.coordinator_lookup(kind, name)
            except KafkaError as error:
                if not error.retriable:
                    raise type(error)(name) from error
                await asyncio.sleep(BACKOFF_S)
        self._nodes[kind, name] = node
        return await self._client.send(node, request)


def _check(refused: set[int], of: object) -> None:
    for code in refused:
        if code in _FENCED:
            raise FencedError(f"fenced: {_FENCED[code]}")
    for code in refused - _EXPECTED:
        error = for_code(code)
        if not error.retriable:
            text = f"rolled back: {_NAMES.get(code, error.__name__)} ({code})"
            raise AbortedError(text) from error(of)


def error_code(answer: Any) -> set[int]:
    """Give the one error code of an answer."""
    return {answer.error_code}


def partition_codes(answer: Any) -> set[int]:
    """Give the error codes of an answer that has one for each partition."""
    topics = answer.errors if hasattr(answer, "errors") else answer.topics
    return {entry[1] for _, entries in topics for entry in entries}


def _refused_topics(answer: Any) -> set[str]:
    return {
        topic for topic, entries in answer.errors if _TOPIC_REFUSED in {code for _, code in entries}
    }


def _no_other(_answer: Any) -> None:
    return None
