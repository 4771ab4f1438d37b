"""The position of a stream: for each partition of its topics, the next offset to deliver.

It is the `id` of every event. Clients treat it as opaque; the form is, in unpadded base64url:

    version (1 byte) | topics (1 byte, a bit each) | vector for each topic | CRC-16 of all before

and a vector is the number of partitions, then each partition's next offset, as LEB128 varints.
Each position has exactly one form; anything else is refused, so that a mangled id is told to the
client instead of sending it somewhere else in the stream.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from api.errors import PositionError

FRAUD: Final = 0
LEGIT: Final = 1
"""Indices of the verdict topics, everywhere in the streams."""
STREAMS: Final[Mapping[str, tuple[int, ...]]] = {
    "fraud": (FRAUD,),
    "legit": (LEGIT,),
    "all": (FRAUD, LEGIT),
}
"""The streams by name, and the topics each carries."""

MAX_PARTITIONS: Final = 1024
MAX_OFFSET: Final = 2**63 - 1
MAX_ID_LENGTH: Final = 32_768
"""Characters; two topics of 1024 partitions at 9 bytes an offset come to about 24,600."""

_VERSION: Final = 1
_CRC_BYTES: Final = 2
_MORE: Final = 0x80
_LOW_BITS: Final = 0x7F
_LAST_SHIFT: Final = 56
"""Of the ninth and last byte that an offset may have; a number without end would take for ever."""


@dataclass(frozen=True, slots=True)
class Position:
    """Each topic's next offsets, by partition."""

    vectors: Mapping[int, tuple[int, ...]]

    def encode(self) -> str:
        """Give the id."""
        return Cursor(self).id().decode()


def decode(text: str) -> Position:
    """Read an id.

    Raises:
        PositionError: it is not one that `Position.encode` gives.
    """
    if len(text) > MAX_ID_LENGTH:
        raise PositionError(f"longer than {MAX_ID_LENGTH} characters")
    raw = _from_base64(text)
    payload, crc = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    if len(payload) < 2:  # noqa: PLR2004 - version and topics
        raise PositionError("too short")
    if payload[0] != _VERSION:
        raise PositionError(f"of version {payload[0]}; this gateway knows version {_VERSION}")
    if _crc(payload) != crc:
        raise PositionError("mangled: its checksum is wrong")
    topics = payload[1]
    if not topics or topics >> len(STREAMS["all"]):
        raise PositionError("of topics that are not streamed")
    numbers = _varints(payload[2:])
    vectors = {topic: _vector(numbers) for topic in STREAMS["all"] if topics & (1 << topic)}
    if next(numbers, None) is not None:
        raise PositionError("too long")
    return Position(vectors)


class Cursor:
    """A position that moves as events pass; keeps its encoded parts, for an id for each event."""

    __slots__ = ("_next", "_parts")

    def __init__(self, position: Position) -> None:
        self._next = {topic: list(vector) for topic, vector in position.vectors.items()}
        self._parts = self._encoded()

    @property
    def topics(self) -> tuple[int, ...]:
        """The topics this position covers."""
        return tuple(self._next)

    def position(self) -> Position:
        """Give the position as it is now."""
        return Position({topic: tuple(vector) for topic, vector in self._next.items()})

    def next(self, topic: int, partition: int) -> int:
        """Give a partition's next offset; 0 for one that came after the position was made."""
        vector = self._next[topic]
        return vector[partition] if partition < len(vector) else 0

    def vector(self, topic: int) -> Sequence[int]:
        """Give a topic's next offsets as they are now."""
        return self._next[topic]

    def move(self, topic: int, partition: int, offset: int) -> None:
        """Set a partition's next offset."""
        vector = self._next[topic]
        if partition < len(vector):
            vector[partition] = offset
            self._parts[topic][partition + 1] = _varint(offset)
        else:
            vector.extend([0] * (partition - len(vector)))
            vector.append(offset)
            self._parts = self._encoded()

    def id(self) -> bytes:
        """Give the id of the position as it is now, ASCII."""
        head = bytes((_VERSION, sum(1 << topic for topic in self._next)))
        payload = head + b"".join([b"".join(self._parts[topic]) for topic in sorted(self._parts)])
        return base64.urlsafe_b64encode(payload + _crc(payload)).rstrip(b"=")

    def _encoded(self) -> dict[int, list[bytes]]:
        return {
            topic: [_varint(len(vector)), *map(_varint, vector)]
            for topic, vector in self._next.items()
        }


def _crc(payload: bytes) -> bytes:
    return binascii.crc_hqx(payload, 0xFFFF).to_bytes(_CRC_BYTES, "big")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _LOW_BITS:
        out.append(number & _LOW_BITS | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varints(raw: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in raw:
        number |= (byte & _LOW_BITS) << shift
        if byte & _MORE and shift < _LAST_SHIFT:
            shift += 7
            continue
        if byte & _MORE or number > MAX_OFFSET or (shift and not byte):
            raise PositionError("mangled: an offset is out of range")
        yield number
        number = shift = 0
    if shift:
        raise PositionError("cut off")


def _vector(numbers: Iterator[int]) -> tuple[int, ...]:
    count = next(numbers, None)
    if count is None or count > MAX_PARTITIONS:
        raise PositionError("mangled: no possible number of partitions")
    vector = tuple(islice(numbers, count))
    if len(vector) != count:
        raise PositionError("cut off")
    return vector


def _from_base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:  # covers binascii.Error and text that is not ASCII
        raise PositionError("not base64url") from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise PositionError("not base64url in its one form")
    return raw
