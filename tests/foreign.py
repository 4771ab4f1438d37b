"""Records as only other clients write them: with a header whose name is not UTF-8.

Kafka takes any bytes; the clients for Python don't.
"""

import struct
import time

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from wire import kafka
from wire.produce import Produce
from wire.settings import KafkaSettings

NAME = "gr#n"
CRC_AT, SUMMED_FROM = 17, 21
"""Where a batch has its checksum, and from where on that is made."""


async def write(
    settings: KafkaSettings, topic: str, *values: bytes | None, at_ms: int | None = None
) -> None:
    """Write records to partition 0, as one batch."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    stamp = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    for number, value in enumerate(values):
        assert builder.append(number, stamp, b"key", value, [(NAME, b"1")]) is not None
    batch = bytearray(builder.build()).replace(NAME.encode(), NAME.encode().replace(b"#", b"\xfc"))
    struct.pack_into(">I", batch, CRC_AT, calc_crc32c(bytes(batch[SUMMED_FROM:])))
    client = await kafka.start(lambda: kafka.client(settings, [topic]))
    try:
        leader = client.cluster.leader_for_partition(TopicPartition(topic, 0))
        answer = await client.send(leader, Produce(10_000, {topic: [(0, batch)]}))
    finally:
        await kafka.close(client)
    ((_, ((_, error, *_),)),) = answer.topics
    assert error == 0
