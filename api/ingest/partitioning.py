"""Which partition a key belongs to: Kafka's default partitioner, as in every Java client."""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Hash as org.apache.kafka.common.utils.Utils.murmur2 does; unsigned, 32 bits.

    MurmurHash2 by Austin Appleby, with Kafka's seed, over little-endian words.
    """
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for k in struct.unpack_from(f"<{whole >> 2}I", data):
        mixed = k * _M & _WORD
        mixed = (mixed ^ mixed >> 24) * _M & _WORD
        h = h * _M & _WORD ^ mixed
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _WORD
    h = (h ^ h >> 13) * _M & _WORD
    return h ^ h >> 15


def partitioner(partitions: int, cached_keys: int) -> Callable[[bytes], int]:
    """Make the function from a record's key to its partition, 0 to partitions - 1.

    Accounts come again and again, so the last `cached_keys` answers are remembered.
    """

    @lru_cache(cached_keys)
    def partition(key: bytes) -> int:
        # Kafka's toPositive: the sign bit is dropped, not negated.
        return (murmur2(key) & 0x7FFFFFFF) % partitions

    return partition
