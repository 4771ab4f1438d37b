"""One client's place: a bounded queue of bytes between the hub and its connection."""

import asyncio
from collections import deque
from enum import StrEnum
from typing import Final

from api.protocol import Connection

MAX_SEND_BYTES: Final = 256 << 10
"""Queued chunks are joined up to this size: fewer sends for a client that is behind."""


class Cause(StrEnum):
    """Why a stream ended."""

    CLIENT = "client"
    """The client went away."""
    SLOW = "slow"
    """It took less than the stream gives: its queue was full."""
    STALLED = "stalled"
    """It took nothing for too long while it was being served history."""
    LIFE = "life"
    """It reached the connection life limit."""
    DRAIN = "drain"
    """The gateway shuts down."""
    BROKEN = "broken"
    """The gateway failed; its log says why."""


class Subscription:
    """A queue that never grows past its bound: a client that falls behind is let go.

    Chunks are shared between clients, so a queue holds references only. It ends by `close`;
    whoever reads it then gets b"", whatever was queued: the client resumes from the last id that
    it got whole.
    """

    __slots__ = (
        "_bytes",
        "_chunks",
        "_connection",
        "_limit",
        "_reader",
        "_room",
        "cause",
        "ends_at",
        "next_heartbeat",
    )

    def __init__(self, limit: int, connection: Connection | None) -> None:
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._limit = limit
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._connection = connection
        self.cause: Cause | None = None
        self.next_heartbeat = 0.0
        self.ends_at = float("inf")

    def offer(self, chunk: bytes) -> None:
        """Queue a chunk; a client that has too much queued already is disconnected."""
        if self._bytes > self._limit:
            self.cut(Cause.SLOW)
        elif self.cause is None:
            self._chunks.append(chunk)
            self._bytes += len(chunk)
            if self._reader is not None:
                _wake(self._reader)

    def write(self, chunk: bytes, framed: bytes) -> None:
        """Write a chunk at once if nothing is before it; else queue it."""
        idle = self._reader is not None and not self._chunks
        if not (idle and self._connection is not None and self._connection.write(framed)):
            self.offer(chunk)

    async def room(self) -> None:
        """Wait until everything queued was taken, or the stream ended."""
        while self._chunks and self.cause is None:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    async def take(self) -> bytes:
        """Wait for the next bytes to send; b"" at the end of the stream."""
        while not self._chunks:
            if self.cause is not None:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
            self._reader = None
        chunk = self._chunks.popleft()
        if self._chunks:
            parts = [chunk]
            size = len(chunk)
            while self._chunks and size + len(self._chunks[0]) <= MAX_SEND_BYTES:
                parts.append(self._chunks.popleft())
                size += len(parts[-1])
            chunk = b"".join(parts)
        self._bytes -= len(chunk)
        if self._room is not None:
            _wake(self._room)
            self._room = None
        return chunk

    def close(self, cause: Cause) -> None:
        """End the stream in order; the first cause stays."""
        if self.cause is None:
            self.cause = cause
            self._chunks.clear()
            self._bytes = 0
        for waiting in (self._reader, self._room):
            if waiting is not None:
                _wake(waiting)

    def cut(self, cause: Cause) -> None:
        """End the stream and its connection, even while a send is blocked."""
        self.close(cause)
        if self._connection is not None:
            self._connection.abort()


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
