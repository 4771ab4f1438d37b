"""Record batches as fetched: unpacked to what is committed of them."""

import struct
from collections.abc import Iterable
from typing import Any, Final, Protocol

from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

_BEGINNING: Final = struct.Struct(">qi")
"""What every batch begins with: the offset of its first record, and how many bytes follow."""


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
    number = 0
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
            try:
                found = list(batch)
            except UnicodeDecodeError:
                found = list(_mended(_batch_of(data, number)))
            if base_offset < offset:
                records += [record for record in found if record.offset >= offset]
            else:
                records += found
        offset = max(offset, batch.next_offset)
        number += 1
    return records, offset


def _batch_of(data: bytes, number: int) -> bytes:
    """Give the bytes of a batch, by its place among those that were fetched."""
    begin = end = 0
    for _ in range(number + 1):
        begin = end
        _, length = _BEGINNING.unpack_from(data, begin)
        end = begin + _BEGINNING.size + length
    return data[begin:end]


def _mended(batch: bytes) -> Iterable[Record]:
    """Read a batch in which a header's name is not UTF-8, as Kafka has it, which does not look.

    Each byte of such a name that is not ASCII comes out as a question mark.
    """
    read = _DefaultRecordBatchPy(batch)
    read._maybe_uncompress()  # noqa: SLF001 - it does so only when it is read, which it can't be
    header = bytearray(batch[: read.HEADER_STRUCT.size])
    plain = read.attributes & ~read.CODEC_MASK
    struct.pack_into(">h", header, read.ATTRIBUTES_OFFSET, plain)
    records = read._buffer[read._pos :]  # noqa: SLF001
    at = 0
    for _ in range(read._num_records):  # noqa: SLF001
        _, at = decode_varint(records, at)
        at += 1  # attributes
        for _ in ("timestamp", "offset"):
            _, at = decode_varint(records, at)
        for _ in ("key", "value"):
            _, at = _field(records, at)
        headers, at = decode_varint(records, at)
        for _ in range(headers):
            name, at = _field(records, at)
            try:
                records[name].decode()
            except UnicodeDecodeError:
                records[name] = _ascii(records[name])
            _, at = _field(records, at)
    mended: Iterable[Record] = DefaultRecordBatch(header + records)
    return mended


def _ascii(name: bytes | bytearray) -> bytes:
    return name.decode("ascii", "replace").replace("\ufffd", "?").encode()


def _field(records: bytearray, at: int) -> tuple[slice, int]:
    """Give where a field of variable length lies, and what is behind it; -1 is one without."""
    length, at = decode_varint(records, at)
    end = at + max(0, length)
    return slice(at, end), end
