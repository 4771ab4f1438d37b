"""Record batches to write: filled and built."""

from collections.abc import Iterable, Iterator
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from detector.requests import Producer

Headers = list[tuple[str, bytes]]
Entry = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record to write."""
_MAGIC: Final = 2


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
