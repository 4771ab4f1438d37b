"""The yardstick: how long one small transaction takes here while nothing else goes on."""

import asyncio
import itertools
import statistics
import time
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from wire import kafka
from wire.settings import TopicSettings

COUNT = 150
WARM_UP = 50
PAUSE_S = 0.02
"""Between two of them: the coordinator finishes one after its commit was answered."""
VALUE = b"x" * 300


class Steps(NamedTuple):
    """The steps of one transaction, in milliseconds."""

    send: float
    offsets: float
    commit: float
    visible: float
    """Until a reader of committed records has it."""
    whole: float

    def __str__(self) -> str:
        parts = zip(self._fields[:-1], self, strict=False)
        return f"{self.whole:.1f} ms: " + ", ".join(f"{name} {ms:.1f}" for name, ms in parts)


async def alone(of: TopicSettings) -> Steps:
    """Measure aiokafka's transactions of one record and one offset; give the medians."""
    group = f"{of.transactions_topic}-alone"
    place = TopicPartition(of.legit_topic, 0)
    producer = await kafka.start(lambda: kafka.producer(of, transactional_id=group))
    reader = await kafka.start(lambda: kafka.consumer(of, auto_offset_reset="earliest"))
    reader.assign([place])
    taken: list[tuple[float, ...]] = []
    for number in range(COUNT):
        at = [time.perf_counter()]
        await producer.begin_transaction()
        await producer.send_and_wait(of.legit_topic, VALUE, partition=place.partition)
        at.append(time.perf_counter())
        next_offset = {TopicPartition(of.transactions_topic, 0): OffsetAndMetadata(number + 1, "")}
        await producer.send_offsets_to_transaction(next_offset, group)
        at.append(time.perf_counter())
        await producer.commit_transaction()
        at.append(time.perf_counter())
        await reader.getone()
        at.append(time.perf_counter())
        steps = [1000 * (end - begin) for begin, end in itertools.pairwise(at)]
        taken.append((*steps, sum(steps)))
        await asyncio.sleep(PAUSE_S)
    await kafka.close(reader)
    await kafka.close(producer)
    return Steps(*map(statistics.median, zip(*taken[WARM_UP:], strict=True)))
