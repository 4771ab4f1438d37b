"""Record batches: what is committed of fetched ones, and how entries are put into new ones."""

import gzip
import struct
from collections.abc import Iterable

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from detector.records import batched
from detector.requests import Producer
from wire.records import unpack

ABORT, COMMIT = 0, 1
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
HEADER = 61
PRODUCER = Producer("id", 7, 0)


def data(
    values: Iterable[bytes], *, producer: int = -1, transactional: bool = False, codec: int = 0
) -> bytearray:
    """Make a batch whose records begin at offset 0."""
    builder = DefaultRecordBatchBuilder(
        2, codec, is_transactional=transactional, producer_id=producer,
        producer_epoch=0, base_sequence=0, batch_size=1_000_000,
    )  # fmt: skip
    for number, value in enumerate(values):
        builder.append(number, 1_000, None, value, [])
    return builder.build()


def marker(kind: int, producer: int) -> bytearray:
    """Make the control batch that ends a transaction."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=1, producer_id=producer,
        producer_epoch=0, base_sequence=0, batch_size=1_000,
    )  # fmt: skip
    builder.append(0, 1_000, struct.pack(">hh", 0, kind), b"\0\0\0\0\0\0", [])
    built = builder.build()
    built[22] |= 0x20  # the attributes' control bit
    return checked(built)


def checked(batch: bytearray) -> bytearray:
    """Write the checksum anew."""
    batch[17:21] = struct.pack(">I", calc_crc32c(bytes(batch[21:])))
    return batch


def log(*batches: bytearray) -> bytes:
    """Give batches one after the other, each at the next offset."""
    offset = 0
    for batch in batches:
        struct.pack_into(">q", batch, 0, offset)
        offset += 1 + struct.unpack_from(">i", batch, 23)[0]
    return b"".join(batches)


def values(found: tuple[list, int]) -> list[bytes]:
    """Give the records' values."""
    return [record.value for record in found[0]]


def test_reading_begins_within_a_batch() -> None:
    """Records before the offset asked for are left out; the next offset is after the last batch."""
    found = unpack(log(data([b"a", b"b", b"c"]), data([b"d"])), 1, ())
    assert (values(found), found[1]) == ([b"b", b"c", b"d"], 4)
    assert [record.offset for record in found[0]] == [1, 2, 3]


def test_nothing_is_where_nothing_was_fetched() -> None:
    """An empty answer leaves the offset as it is."""
    assert unpack(b"", 17, ()) == ([], 17)


def test_what_was_rolled_back_is_left_out() -> None:
    """Of two open transactions, one is rolled back; a later one of the same producer counts."""
    fetched = log(
        data([b"plain"]),
        data([b"kept"], producer=1, transactional=True),
        data([b"dropped", b"too"], producer=2, transactional=True),
        marker(ABORT, 2),
        marker(COMMIT, 1),
        data([b"later"], producer=2, transactional=True),
        marker(COMMIT, 2),
    )
    found = unpack(fetched, 0, [(2, 2)])
    assert (values(found), found[1]) == ([b"plain", b"kept", b"later"], 8)


def test_an_abort_is_known_from_a_fetch_that_begins_in_the_midst() -> None:
    """The list of what was rolled back may begin before the first batch fetched."""
    fetched = log(data([b"x"], producer=2, transactional=True), marker(ABORT, 2))
    found = unpack(fetched, 1, [(2, 0)])
    assert (values(found), found[1]) == ([], 2)


def test_a_cut_off_end_is_left_for_the_next_fetch() -> None:
    """The last batch may be incomplete, but not the only one."""
    fetched = log(data([b"a"]), data([b"b" * 100]))
    assert (values(unpack(fetched[:-10], 0, ())), unpack(fetched[:-10], 0, ())[1]) == ([b"a"], 1)
    with pytest.raises(CorruptRecordException, match="cut off"):
        unpack(fetched[:30], 0, ())


def test_a_wrong_checksum_is_told() -> None:
    """Bytes that were changed on the way are not decided on."""
    fetched = bytearray(log(data([b"abc"])))
    fetched[-2] ^= 1
    with pytest.raises(CorruptRecordException, match="checksum"):
        unpack(bytes(fetched), 0, ())


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
def test_a_compressed_batch_is_unpacked(codec: int) -> None:
    """Another producer may have compressed it; reading begins within it, too."""
    fetched = log(data([b"a", b"b", b"c"], codec=codec), data([b"d"]))
    found = unpack(fetched, 1, ())
    assert (values(found), found[1]) == ([b"b", b"c", b"d"], 4)


@pytest.mark.parametrize("codec", [0, GZIP])
def test_a_headers_name_may_be_no_utf_8(codec: int) -> None:
    """Kafka does not look at it, and some clients write bytes: the records come out as others."""
    names = ["plain", "gr\u00fcn", "bad#"]
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1_000_000)
    for number, name in enumerate(names * 20):
        value = b"value" if number % 2 else None
        builder.append(number, 5, b"key", value, [(name, b"1"), ("none", None)])
    batch = bytearray(builder.build()).replace(b"bad#", b"bad\xfc")
    if codec:
        batch[HEADER:] = gzip.compress(batch[HEADER:])
        struct.pack_into(">i", batch, 8, len(batch) - 12)
        struct.pack_into(">h", batch, 21, codec)
    struct.pack_into(">q", batch, 0, 1)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    ordinary = data([b"before"])
    records, after = unpack(bytes(ordinary + batch), 0, ())
    assert after == 61
    assert [record.headers for record in records[1:4]] == [
        [(name, b"1"), ("none", None)] for name in ("plain", "gr\u00fcn", "bad?")
    ]
    assert [
        (record.offset, record.timestamp, record.key, record.value) for record in records[1:]
    ] == [(number + 1, 5, b"key", b"value" if number % 2 else None) for number in range(60)]


@pytest.mark.parametrize("codec", [0, GZIP])
def test_records_from_before_transactions_are_unpacked(codec: int) -> None:
    """A log may still have the format that Kafka wrote before 0.11."""
    builder = LegacyRecordBatchBuilder(1, codec, 1_000)
    for number, value in enumerate((b"a", b"b", b"c")):
        builder.append(number, 1_000, None, value)
    built = builder.build()
    if codec:  # what is in it is numbered from 0; the whole has the last one's offset
        struct.pack_into(">q", built, 0, 2)
    found = unpack(bytes(built), 1, [(1, 0)])
    assert (values(found), found[1]) == ([b"b", b"c"], 3)


sizes = st.lists(st.integers(0, 400), max_size=60)


@given(sizes, st.integers(100, 2_000))
def test_every_entry_finds_its_place_in_order(lengths: list[int], most_bytes: int) -> None:
    """Whatever the sizes, all entries come out in order; a batch is too large only if alone."""
    entries = [(b"k", bytes([n % 256]) * size, [("h", b"v")]) for n, size in enumerate(lengths)]
    batches = batched(entries, 1_000, most_bytes)
    built = [batch.build(PRODUCER, 0) for batch in batches]
    found = [record for one in built for record in unpack(bytes(one), 0, ())[0]]
    assert [(r.key, r.value, list(r.headers), r.timestamp) for r in found] == [
        (key, value, headers, 1_000) for key, value, headers in entries
    ]
    assert sum(batch.count for batch in batches) == len(entries)
    for one, batch in zip(built, batches, strict=True):
        assert len(one) <= most_bytes or batch.count == 1
