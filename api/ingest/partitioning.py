"""Which partition a key belongs to: Kafka's default partitioner, as in every Java client."""

import struct
from collections.abc import Callable
from itertools import islice
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

    Accounts come again and again, so answers are remembered, `cached_keys` of them at most.
    """
    return _Known(partitions, cached_keys).__getitem__


class _Known(dict[bytes, int]):
    """The partitions of keys that were asked for; some of the first ones go where there are many.

    (functools.lru_cache takes twice as long: for each answer it writes down when it was given.)
    """

    def __init__(self, partitions: int, most: int) -> None:
        super().__init__()
        self._partitions = partitions
        self._most = most

    def __missing__(self, key: bytes) -> int:
        if len(self) >= self._most:
            for old in list(islice(self, max(1, self._most // 16))):
                del self[old]
        # Kafka's toPositive: the sign bit is dropped, not negated.
        partition = self[key] = (murmur2(key) & 0x7FFFFFFF) % self._partitions
        return partition
