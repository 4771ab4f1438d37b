"""Server-sent events (WHATWG HTML, section 9.2) as bytes."""

from collections.abc import Iterable
from typing import Any, Final

from sse_starlette import JSONServerSentEvent, ServerSentEvent

from api.streams.event import Event
from api.streams.filters import Filter
from api.streams.position import Cursor

SEPARATOR: Final = "\n"
HEARTBEAT: Final = ServerSentEvent(comment="heartbeat", sep=SEPARATOR).encode()


def retry(milliseconds: int) -> bytes:
    """Tell the client how long to wait before it reconnects."""
    return ServerSentEvent(retry=milliseconds, sep=SEPARATOR).encode()


def progress(position: bytes) -> bytes:
    """Move the client's position; no event is dispatched."""
    return ServerSentEvent(id=position.decode(), sep=SEPARATOR).encode()


def verdict(position: bytes, value: bytes) -> bytes:
    """Make the unnamed event of one verdict; by hand, for it is done for each."""
    if b"\n" in value or b"\r" in value:  # not by our detector: it writes one line
        value = b"\ndata: ".join(value.splitlines())
    return b"id: %b\ndata: %b\n\n" % (position, value)


def gap(position: bytes, missing: object) -> bytes:
    """Make the event that says which history is gone; the stream goes on at the position."""
    data = {"missing": missing}
    event = JSONServerSentEvent(data, event="gap", id=position.decode(), sep=SEPARATOR)
    return event.encode()


def missing(topic: str, partition: int, expected: int, offset: int) -> dict[str, Any]:
    """Describe a gap: the client wanted a partition from one offset on, and gets it from another.

    `offset` is smaller than `expected` where a topic was made anew or lost its end.
    """
    return {
        "topic": topic,
        "partition": partition,
        "expected_offset": expected,
        "next_offset": offset,
    }


def encode(events: Iterable[Event], cursor: Cursor, only: Filter | None) -> bytes:
    """Make the blocks of those events that the cursor has not passed and the filter lets through.

    The cursor moves past all of them. If none got through, the client's position moves still.
    """
    blocks = []
    moved = False
    for event in events:
        if event.offset < cursor.next(event.topic, event.partition):
            continue
        cursor.move(event.topic, event.partition, event.offset + 1)
        moved = True
        shown: bytes | None = event.value
        if only is not None:
            shown = only.shown(event)
            event.forget()  # it may be the ring's
        if shown is not None:
            blocks.append(verdict(cursor.id(), shown))
    if moved and not blocks:
        return progress(cursor.id())
    return b"".join(blocks)
