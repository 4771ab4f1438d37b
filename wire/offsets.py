"""Where the records of partitions lie, by time: asked of their leaders.

A broker answers what comes on one connection in its order. So these requests have a connection of
their own: they wait behind no fetch that waits for records.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.offset import OffsetRequest

FIRST: Final = -2
"""In place of a time: the first record that there is."""
END: Final = -1
"""In place of a time: the end of what is committed, one past the last offset."""
NONE: Final = -1
"""The offset, and the time, where no record is stamped so late."""
ASK_AGAIN_S: Final = 0.1
"""Pause after an answer that was none."""
_ANY_REPLICA: Final = -1
_COMMITTED: Final = 1
"""Isolation level read_committed."""

Offsets = dict[TopicPartition, int]
_Found = dict[TopicPartition, tuple[int, int]]
"""Time and offset of a record."""


async def since(
    client: AIOKafkaClient, places: Iterable[TopicPartition], timestamp_ms: int
) -> Offsets:
    """Give each partition's first offset stamped at or after a time (ms since the Unix epoch).

    It has no limit of its own, and asks until all leaders have answered: the caller sets one.

    Raises:
        KafkaError: refused for good.
    """
    found = await _found(client, places, timestamp_ms)
    return {place: offset for place, (_, offset) in found.items()}


async def stamps(
    client: AIOKafkaClient, places: Iterable[TopicPartition], timestamp_ms: int
) -> dict[TopicPartition, int]:
    """Give, as `since`, the time of each partition's first record stamped at or after a time."""
    found = await _found(client, places, timestamp_ms)
    return {place: stamp for place, (stamp, _) in found.items()}


async def _found(
    client: AIOKafkaClient, places: Iterable[TopicPartition], timestamp_ms: int
) -> _Found:
    left, found = set(places), _Found()
    while left:
        by_leader: dict[int, list[TopicPartition]] = {}
        for place in left:
            leader = client.cluster.leader_for_partition(place)
            if leader not in (None, -1):
                by_leader.setdefault(leader, []).append(place)
        asking = (_ask(client, node, of, timestamp_ms) for node, of in by_leader.items())
        for answer in await asyncio.gather(*asking):
            found |= answer
        left -= found.keys()
        if left:
            client.force_metadata_update()
            await asyncio.sleep(ASK_AGAIN_S)
    return found


async def _ask(
    client: AIOKafkaClient, node: int, places: Iterable[TopicPartition], timestamp_ms: int
) -> _Found:
    """Ask one broker; what it does not know now is left out."""
    by_topic: dict[str, list[tuple[int, int]]] = {}
    for place in places:
        by_topic.setdefault(place.topic, []).append((place.partition, timestamp_ms))
    request = OffsetRequest(_ANY_REPLICA, _COMMITTED, list(by_topic.items()))
    try:
        response = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    except KafkaError as error:
        if not error.retriable:
            raise
        return {}
    found = _Found()
    for topic, parts in response.topics:
        for partition, code, stamp, offset in parts:
            place = TopicPartition(topic, partition)
            if not code:
                found[place] = stamp, offset
            elif not for_code(code).retriable:
                raise for_code(code)(place)
    return found
