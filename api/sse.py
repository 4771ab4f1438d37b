"""Server-sent events (WHATWG HTML, section 9.2) as bytes."""

from collections.abc import Iterable
from typing import Final

import msgspec

from api.event import Event
from api.filters import Filter
from api.position import Cursor

HEARTBEAT: Final = b": heartbeat\n\n"


def retry(milliseconds: int) -> bytes:
    """Tell the client how long to wait before it reconnects."""
    return b"retry: %d\n\n" % milliseconds


def progress(position: bytes) -> bytes:
    """Move the client's position; no event is dispatched."""
    return b"id: %b\n\n" % position


def verdict(position: bytes, value: bytes) -> bytes:
    """Make the unnamed event of one verdict."""
    if b"\n" in value or b"\r" in value:  # not by our detector: it writes one line
        value = b"\ndata: ".join(value.splitlines())
    return b"id: %b\ndata: %b\n\n" % (position, value)


def gap(position: bytes, missing: object) -> bytes:
    """Make the event that says which history is gone; the stream goes on at the position."""
    data = msgspec.json.encode({"missing": missing})
    return b"event: gap\nid: %b\ndata: %b\n\n" % (position, data)


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
        if only is None or only.matches(event):
            blocks.append(verdict(cursor.id(), event.value))
    if moved and not blocks:
        return progress(cursor.id())
    return b"".join(blocks)
