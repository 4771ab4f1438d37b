"""Keys go to the partition that every Java client would choose."""

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from api.ingest.partitioning import murmur2, partitioner


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, expected: int) -> None:
    """The vectors of Kafka's own UtilsTest."""
    assert murmur2(key) == expected % 2**32


@given(st.binary(max_size=64), st.integers(1, 50))
def test_the_partition_is_that_of_other_clients(key: bytes, partitions: int) -> None:
    """The same as aiokafka's own partitioner, cached or not."""
    expected = (aiokafka_murmur2(key) & 0x7FFFFFFF) % partitions
    choose = partitioner(partitions, 10)
    assert [choose(key), choose(key)] == [expected, expected]


def test_so_many_keys_are_remembered_at_most() -> None:
    """Whoever posts for ever new accounts takes no more memory, and gets right partitions."""
    choose = partitioner(7, 20)
    known = choose.__self__  # type: ignore[attr-defined]
    for _ in range(2):
        for number in range(1000):
            key = str(number).encode()
            assert choose(key) == (aiokafka_murmur2(key) & 0x7FFFFFFF) % 7
            assert 0 < len(known) <= 20
