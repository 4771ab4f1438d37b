"""Record batches: fetched ones, unpacked to what is committed; and new ones, filled and built."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from detector.requests import Producer

Headers = list[tuple[str, bytes]]
Entry = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record to write."""
_MAGIC: Final = 2


class Record(Protocol):
    """What is read of a Kafka record."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """When it was made, ms since the epoch."""

    @property
    def key(self) -> bytes | None:
        """Its key."""

    @property
    def value(self) -> bytes | None:
        """Its value."""

    @property
    def headers(self) -> Any:
        """Its headers: pairs of name and value."""


class RecordBatch:
    """Records to append to one partition in one go."""

    __slots__ = ("_builder", "_built", "_timestamp_ms", "count")

    def __init__(self, timestamp_ms: int, most_bytes: int) -> None:
        self.count = 0
        self._timestamp_ms = timestamp_ms
        self._builder = DefaultRecordBatchBuilder(
            _MAGIC,
            compression_type=0,
            is_transactional=1,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=0,
            batch_size=most_bytes,
        )

    def fill(self, entries: Iterator[Entry]) -> Entry | None:
        """Take in entries until it is full; give the one that found no room, None at the end.

        The first entry always finds room.
        """
        append, timestamp_ms, count = self._builder.append, self._timestamp_ms, self.count
        for entry in entries:
            key, value, headers = entry
            if append(count, timestamp_ms, key, value, headers) is None:
                self.count = count
                return entry
            count += 1
        self.count = count
        return None

    def build(self, producer: Producer, sequence: int) -> bytearray:
        """Give its bytes; only once. `sequence` is the first record's, of this producer."""
        self._builder.set_producer_state(producer.producer_id, producer.epoch, sequence)
        built: bytearray = self._builder.build()
        return built


def batched(entries: Iterable[Entry], timestamp_ms: int, most_bytes: int) -> list[RecordBatch]:
    """Put entries into as few batches as hold them, in their order."""
    batches: list[RecordBatch] = []
    remaining = iter(entries)
    left = next(remaining, None)
    while left is not None:
        batch = RecordBatch(timestamp_ms, most_bytes)
        batch.fill(iter((left,)))
        left = batch.fill(remaining)
        batches.append(batch)
    return batches


def unpack(
    data: bytes, offset: int, aborted: Iterable[tuple[int, int]]
) -> tuple[list[Record], int]:
    """Give the committed records from an offset on, and the offset after all that is there.

    Args:
        data: record batches as fetched; the last one may be cut off.
        offset: what was asked for; a batch may begin before it.
        aborted: producer id and first offset of each transaction that was rolled back.

    Raises:
        CorruptRecordException: a batch's checksum is wrong, or the first one is cut off.
    """
    memory = MemoryRecords(data)
    if data and not memory.has_next():
        raise CorruptRecordException(f"the batch at offset {offset} is cut off")
    to_come = sorted(aborted or (), key=lambda each: each[1], reverse=True)
    dropped: set[int] = set()
    records: list[Record] = []
    while memory.has_next():
        batch = memory.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"wrong checksum at offset {batch.base_offset}")
        while to_come and to_come[-1][1] <= batch.base_offset:
            dropped.add(to_come.pop()[0])
        if batch.is_control_batch:
            if ControlRecord.parse(next(batch).key) == ABORT_MARKER:
                dropped.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in dropped):
            if batch.base_offset < offset:
                records += [record for record in batch if record.offset >= offset]
            else:
                records += batch
        offset = max(offset, batch.next_offset)
    return records, offset
