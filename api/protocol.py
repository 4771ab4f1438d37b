"""HTTP/1.1 on a connection: uvicorn's, but a response can reach the connection under it.

A stream needs that twice. One to a client that has stopped reading can't be ended through ASGI:
`send` waits until the client reads, and closing waits for the buffer to empty; only the transport
can be aborted. And a chunk that goes to thousands of clients is framed once and written as it is,
where ASGI would wake a task and frame and copy it for each.
"""

import asyncio
import re
import socket
from typing import Final

from starlette.types import Scope
from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

_EXTENSION: Final = "fraudstream.connection"
_WHOLE: Final = "fraudstream.whole"
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_FRAMING: Final = frozenset((b"connection", b"transfer-encoding"))
"""Headers that say where a message or its connection ends."""


class Connection:
    """The connection under a response whose body is sent in chunks (RFC 9112, section 7.1)."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def bound(self, buffer_bytes: int) -> None:
        """Bound what the kernel holds for a peer that doesn't read; by default it grows to 4 MB."""
        if not self._transport.is_closing():
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)

    def write(self, framed: bytes) -> bool:
        """Write a framed chunk of the body; False, and nothing written, if much is waiting."""
        transport = self._transport
        if transport.get_write_buffer_size() > HIGH_WATER_LIMIT:
            return False
        transport.write(framed)
        return True

    def rest(self, seconds: float) -> None:
        """Read nothing more from the client for a while: its next request waits in its socket."""
        transport = self._transport
        if not transport.is_closing():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, dropping what is waiting."""
        self._transport.abort()


class Protocol(HttpToolsProtocol):
    """Puts the connection into each request's scope, and notes when its body is whole.

    Two things are cheaper than in uvicorn, as they are done for every request: an answer in one
    piece is written in one, and one timer watches over an idle connection for all of its life.
    """

    _idle_since: float | None = None
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        super().connection_made(transport)
        self._connection = Connection(transport)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"connection": self._connection}}

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self.scope["extensions"][_WHOLE] = {}

    def on_response_complete(self) -> None:
        """Begin the next request, or to be idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._idle_since = self.loop.time()
            if self._watch is None:
                self._watch = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        if self._watch is not None:
            self._watch.cancel()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _close_if_idle(self) -> None:
        self._watch = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left <= 0:
            self.timeout_keep_alive_handler()
        else:
            self._watch = self.loop.call_later(left, self._close_if_idle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.__class__ = _Exchange  # made by uvicorn, which has no other way to say of what class
        super()._start_asgi_task(cycle, app)


class _Exchange(RequestResponseCycle):
    """A request and its answer, which is written in one if its body comes in one piece.

    The head waits for the first of the body, as the ASGI specification has servers do.
    """

    _head: HTTPResponseStartEvent | None = None

    async def send(self, message: ASGISendEvent) -> None:
        """Take one event of the answer (ASGI)."""
        if not self.response_started:
            if message["type"] == "http.response.start":
                self._head = message  # anew, where the application failed after its first
                return
            head = self._head
            if head is not None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    whole = self._whole(head, message.get("body", b""))
                    if whole is not None:
                        await self._answer(whole)
                        return
                await super().send(head)
        await super().send(message)

    def _whole(self, head: HTTPResponseStartEvent, body: bytes) -> bytes | None:
        """Write head and body; None for an answer that wants more of uvicorn."""
        length = b""
        lines: list[bytes] = []
        for name, value in head["headers"]:
            if name == b"content-length":
                length = value
            elif name in _FRAMING:
                return None
            lines.append(b"%b: %b" % (name, value))
        if _FORBIDDEN(b"\t".join(lines)):
            return None
        if length != b"%d" % len(body) or self.scope["method"] == "HEAD":
            return None
        lines += [b"%b: %b" % header for header in self.default_headers]
        if not self.keep_alive:
            lines.append(b"connection: close")
        return b"%b%b\r\n\r\n%b" % (STATUS_LINE[head["status"]], b"\r\n".join(lines), body)

    async def _answer(self, whole: bytes) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(whole)
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def connection_of(scope: Scope) -> Connection | None:
    """Give the connection under a request; None where another server runs the application."""
    extension = scope.get("extensions", {}).get(_EXTENSION)
    return extension["connection"] if extension else None


def is_whole(scope: Scope) -> bool:
    """Whether the request's body is here already, so that to receive it takes no time."""
    return _WHOLE in scope.get("extensions", ())


def framed(chunk: bytes) -> bytes:
    """Frame a part of a body as HTTP/1.1 sends it."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)
