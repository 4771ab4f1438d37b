"""Ids for transactions that come without one: UUIDs of version 7 (RFC 9562), many at once."""

import os
import time
from typing import Final

_TOGETHER: Final = 256
"""As many as one byte counts."""
_VERSION: Final = 0x7000
_VARIANT: Final = 0x8000


def uuid7s(count: int) -> list[str]:
    """Make so many ids, at less than half of what one after the other costs."""
    made: list[str] = []
    while len(made) < count:
        made += _some(min(count - len(made), _TOGETHER))
    return made


def _some(count: int) -> list[str]:
    """Make ids, in ascending order: they differ in their last 48 bits, a count and 40 random ones.

    Before these are the time and 26 bits that are random, too, and the same in all.
    """
    time_ms = time.time_ns() // 1_000_000
    noise = bytearray(os.urandom(4 + 6 * count))
    version = _VERSION | int.from_bytes(noise[:2]) & 0x0FFF
    variant = _VARIANT | int.from_bytes(noise[2:4]) & 0x3FFF
    head = f"{time_ms >> 16:08x}-{time_ms & 0xFFFF:04x}-{version:04x}-{variant:04x}-"
    ends = noise[4:]
    ends[::6] = bytes(range(count))
    return (head + ends.hex(" ", 6).replace(" ", " " + head)).split(" ")
