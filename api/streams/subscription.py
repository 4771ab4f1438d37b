"""One client's place: a bounded queue of bytes between the hub and its connection."""

import asyncio
from enum import StrEnum
from typing import Final

from api.access.principal import Principal
from api.transport import Connection

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
    CREDENTIAL = "credential"
    """What it was opened with expired, was revoked, or allows something else by now."""
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
        "_limit",
        "_reader",
        "_room",
        "cause",
        "connection",
        "ends_at",
        "expires_at",
        "next_heartbeat",
        "principal",
    )

    def __init__(self, limit: int) -> None:
        self._chunks: list[bytes] = []  # not a deque: those take 760 bytes when empty
        self._bytes = 0
        self._limit = limit
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self.connection: Connection | None = None
        self.cause: Cause | None = None
        self.next_heartbeat = 0.0
        self.ends_at = float("inf")
        self.principal: Principal | None = None
        self.expires_at = float("inf")

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
        if not (idle and self.connection is not None and self.connection.write(chunk, framed)):
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
        count, size = 1, len(self._chunks[0])
        while count < len(self._chunks) and size + len(self._chunks[count]) <= MAX_SEND_BYTES:
            size += len(self._chunks[count])
            count += 1
        chunk = b"".join(self._chunks[:count])
        del self._chunks[:count]
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
        if self.connection is not None:
            self.connection.abort()


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
