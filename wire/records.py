"""Record batches as fetched: unpacked to what is committed of them."""

from collections.abc import Iterable
from typing import Any, Protocol

from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords


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
        # From before Kafka 0.11, it has no producer, and aiokafka does not say where it begins.
        base_offset = -1 if batch.producer_id is None else batch.base_offset
        if not batch.validate_crc():
            raise CorruptRecordException(f"wrong checksum at offset {max(offset, base_offset)}")
        while to_come and to_come[-1][1] <= base_offset:
            dropped.add(to_come.pop()[0])
        if batch.is_control_batch:
            if ControlRecord.parse(next(batch).key) == ABORT_MARKER:
                dropped.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in dropped):
            if base_offset < offset:
                records += [record for record in batch if record.offset >= offset]
            else:
                records += batch
        offset = max(offset, batch.next_offset)
    return records, offset
