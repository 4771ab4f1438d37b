"""Kafka's transactions, step by step: take an id over, append, add the offsets, commit.

aiokafka's own transactional producer sends from a background task and sleeps 20 or 100 ms on
answers that belong to the ordinary course of things; a detector's batch is one straight line of
requests. So they are sent here, one after the other, over aiokafka's client. What is refused for
good is told to the caller, whose only way on is to take its id over again: that rolls back whatever
was left open.

No step has a limit of its own: the caller sets one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest

from detector import requests
from detector.coordinators import Coordinators, partition_codes
from detector.records import RecordBatch
from detector.requests import Membership, Producer
from detector.takeover import take_over
from wire.produce import MAX_SEQUENCE

_TOPIC_REFUSED, _ID_REFUSED = 29, 53  # of TOPIC and TRANSACTIONAL_ID, AUTHORIZATION_FAILED


class Transactions:
    """One transactional producer, and the offsets of its group."""

    def __init__(
        self, client: AIOKafkaClient, topic: str, group: str, written: Sequence[str]
    ) -> None:
        """Make it.

        Args:
            client: connected.
            topic: what the group reads.
            group: whose offsets go with the records.
            written: the topics that the records go to.
        """
        self._client = client
        self._topic = topic
        self._group = group
        self._written = written
        self._coordinators = Coordinators(client)
        self._producer = Producer("", -1, -1)
        self._sequences: dict[TopicPartition, int] = {}

    async def take(self, ids: Sequence[str], timeout_ms: int) -> None:
        """Take over these transactional ids: fence whoever has them, settle what was left.

        The first one is used from now on; its records are open for `timeout_ms` at most.
        """
        await self._coordinators.look()
        cluster = self._client.cluster
        places = [
            TopicPartition(topic, partition)
            for topic in self._written
            for partition in cluster.available_partitions_for_topic(topic) or ()
        ]
        failed = None
        try:
            async with asyncio.TaskGroup() as together:  # of which none goes on when one fails
                taking = [
                    together.create_task(
                        take_over(
                            self._coordinators,
                            each,
                            timeout_ms=timeout_ms,
                            group=self._group,
                            places=places,
                        )
                    )
                    for each in ids
                ]
        except ExceptionGroup as errors:
            failed = errors.exceptions[0]
        if failed is not None:
            raise failed  # with its own cause, which may be a right that is missing
        self._producer = taking[0].result()
        self._sequences.clear()

    async def stable_offsets(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Give the group's offsets, once no open transaction can change them; None where none."""
        request = requests.stable_offsets(self._group, self._topic, list(partitions))
        answer = await self._coordinators.accepted(
            lambda: self._coordinators.of_group(self._group, request),
            lambda it: self._closed(_offset_codes(it)),
            _offset_codes,
        )
        found = {each[0]: each[1] for _, entries, _ in answer.topics for each in entries}
        return {each: None if found.get(each, -1) < 0 else found[each] for each in partitions}

    async def append(self, batches: Mapping[TopicPartition, RecordBatch]) -> None:
        """Append a batch to each of these partitions, acks=all."""
        if not self._coordinators.version_2:
            await self._coordinators.add_partitions(self._producer, batches)
        built = {}
        for place, batch in batches.items():
            sequence = self._sequences.get(place, 0)
            self._sequences[place] = (sequence + batch.count) & MAX_SEQUENCE
            built[place] = batch.build(self._producer, sequence)

        async def ask() -> list[Any]:
            asked = (self._produce(node, part) for node, part in self._by_leader(built).items())
            return await asyncio.gather(*asked)

        await self._coordinators.accepted(
            ask,
            lambda answers: set().union(*map(_refused_topics, answers)),
            lambda answers: set().union(*map(partition_codes, answers)),
        )

    async def add_offsets(self, offsets: Mapping[int, int], membership: Membership) -> None:
        """Add the offsets to go on from, by partition, as a member of the group."""
        version_2 = self._coordinators.version_2
        if not version_2:
            await self._coordinators.add_group(self._producer, self._group)
        request = requests.commit_offsets(
            self._producer,
            membership,
            self._topic,
            dict(offsets),
            version=5 if version_2 else 3,
        )
        await self._coordinators.accepted(
            lambda: self._coordinators.of_group(self._group, request),
            lambda answer: self._closed(partition_codes(answer)),
            partition_codes,
        )

    async def commit(self) -> None:
        """Commit all of it."""
        producer = await self._coordinators.end(self._producer, committed=True)
        if producer != self._producer:
            self._producer = producer
            self._sequences.clear()

    def _closed(self, codes: set[int]) -> str:
        """Tell what it is that the group's coordinator refuses access to by these codes."""
        if _ID_REFUSED in codes:
            return self._producer.transactional_id
        return self._topic if _TOPIC_REFUSED in codes else self._group

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
        if self._coordinators.version_2:
            request: Any = requests.produce(self._producer, timeout_ms, by_topic)
        else:
            name = self._producer.transactional_id
            request = ProduceRequest(name, -1, timeout_ms, list(by_topic.items()))
        return await self._client.send(node, request)


def _offset_codes(answer: Any) -> set[int]:
    return {answer.error_code} | {entry[4] for _, found, _ in answer.topics for entry in found}


def _refused_topics(answer: Any) -> set[str]:
    return {topic for topic, entries in answer.topics if any(entry[1] for entry in entries)}
