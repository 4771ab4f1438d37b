"""HTTP/1.1 on a connection: uvicorn's, but a response can reach the connection under it.

A stream needs that twice. One to a client that has stopped reading can't be ended through ASGI:
`send` waits until the client reads, and closing waits for the buffer to empty; only the transport
can be aborted. And a chunk that goes to thousands of clients is framed once and written as it is,
where ASGI would wake a task and frame and copy it for each.
"""

import asyncio
import socket
from typing import Final

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION: Final = "fraudstream.connection"
_WHOLE: Final = "fraudstream.whole"


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
    """Puts the connection into each request's scope, and notes when its body is whole."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"connection": Connection(self.transport)}}

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        self.scope["extensions"][_WHOLE] = {}


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
