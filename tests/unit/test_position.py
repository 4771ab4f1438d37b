"""The position codec: one form for each position, and nothing else is read."""

import base64
import binascii

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.errors import PositionError
from api.streams.position import FRAUD, LEGIT, MAX_OFFSET, Cursor, Position, decode

vectors = st.lists(st.integers(0, MAX_OFFSET), max_size=12).map(tuple)
positions = st.dictionaries(st.sampled_from((FRAUD, LEGIT)), vectors, min_size=1).map(Position)


@settings(deadline=None)
@given(positions)
def test_every_position_survives_the_round_trip(position: Position) -> None:
    """Decoding an encoded position gives it back."""
    assert decode(position.encode()) == position


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: base64.b64encode(b).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    """Text is refused with our error, or is the one form of a position."""
    try:
        position = decode(text)
    except PositionError:
        return
    assert position.encode() == text


def test_a_number_of_too_many_bytes_is_not_read_to_its_end() -> None:
    """Each of its bytes would cost as much as all before it."""
    payload = bytes([1, 1, 1]) + b"\xff" * 24_000
    whole = payload + binascii.crc_hqx(payload, 0xFFFF).to_bytes(2, "big")

    with pytest.raises(PositionError, match="out of range"):
        decode(base64.urlsafe_b64encode(whole).rstrip(b"=").decode())


@settings(deadline=None)
@given(positions, st.data())
def test_a_mangled_id_is_refused(position: Position, data: st.DataObject) -> None:
    """An id with one character changed, added or taken away is no id."""
    text = position.encode()
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda c: c != text[at]))
    for mangled in (text[:at] + letter + text[at + 1 :], text[:at] + text[at + 1 :], text + letter):
        with pytest.raises(PositionError):
            decode(mangled)


def test_the_form_stays() -> None:
    """Ids that clients hold stay readable: this is one of version 1."""
    position = Position({FRAUD: (0, 300), LEGIT: (7, MAX_OFFSET)})
    assert position.encode() == "AQMCAKwCAgf__________3_lUg"
    assert decode("AQMCAKwCAgf__________3_lUg") == position


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "too short"),
        ("AQ", "too short"),
        ("A" * 40_000, "longer than"),
        ("AgEBAK3E", "version 2"),
        ("AQMCAKwCAgf__________3_lUg==", "base64url"),
        ("é", "base64url"),
    ],
)
def test_a_refusal_says_why(text: str, reason: str) -> None:
    """The error is for the client's developer."""
    with pytest.raises(PositionError, match=reason):
        decode(text)


@settings(deadline=None)
@given(
    positions,
    st.lists(
        st.tuples(st.sampled_from((FRAUD, LEGIT)), st.integers(0, 15), st.integers(0, MAX_OFFSET))
    ),
)
def test_a_cursor_encodes_as_its_position_does(
    start: Position, moves: list[tuple[int, int, int]]
) -> None:
    """However a cursor got there, its id is that of the position."""
    cursor = Cursor(start)
    for topic, partition, offset in moves:
        if topic in cursor.topics:
            cursor.move(topic, partition, offset)
            assert cursor.next(topic, partition) == offset
    assert cursor.id().decode() == cursor.position().encode()
    assert decode(cursor.id().decode()) == cursor.position()


def test_a_partition_that_came_later_is_read_from_its_start() -> None:
    """A position made when there were fewer partitions begins the new ones at 0."""
    cursor = Cursor(Position({FRAUD: (5,)}))
    assert cursor.next(FRAUD, 3) == 0
    cursor.move(FRAUD, 3, 9)
    assert cursor.position() == Position({FRAUD: (5, 0, 0, 9)})
