"""Cutting an event stream into events, however its bytes arrive."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import StreamError
from loadgen.streams import MAX_EVENT_BYTES, Event, events


async def chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    """Give chunks as a response's body does."""
    for chunk in chunks:
        yield chunk


async def cut(*chunks: bytes) -> list[Event]:
    """Give all events of a body."""
    return [event async for event in events(chunked(*chunks))]


@given(st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 120), max_size=6))
async def test_any_chunking_gives_the_same_events(end: bytes, places: list[int]) -> None:
    """Also where a chunk ends within a line end."""
    lines = (b"retry: 1000", b"", b": hi", b"", b"id: 7", b'data: {"a":1}', b"", b"event: gap")
    body = end.join((*lines, b"data:x", b"data: y", b"", b"id: 8", b"", b""))
    cuts = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    chunks = [body[start:stop] for start, stop in pairwise(cuts)]
    assert await cut(*chunks) == [
        Event(b"", b"7", b'{"a":1}'),
        Event(b"gap", None, b"x\ny"),
        Event(b"", b"8", b""),
    ]


async def test_an_unfinished_event_is_no_event() -> None:
    """What the connection's end cuts off comes again on resuming."""
    assert await cut(b"id: 1\ndata: 1\n\nid: 2\ndata: 2\n") == [Event(b"", b"1", b"1")]


async def test_an_endless_event_is_refused() -> None:
    """Memory stays bounded when the server sends no event stream at all."""
    with pytest.raises(StreamError, match="longer than"):
        await cut(*[b"x" * 65536] * (MAX_EVENT_BYTES // 65536 + 1))
