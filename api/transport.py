"""The connection under a response, which is there for what ASGI can't do.

A stream needs that twice. One to a client that has stopped reading can't be ended through ASGI:
`send` waits until the client reads, and closing waits for the buffer to empty; only the transport
can be aborted. And a chunk that goes to thousands of clients is framed once and written as it is,
where ASGI would wake a task and frame and copy it for each.
"""

import asyncio
import socket
from typing import Final

from starlette.types import Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

CONNECTION: Final = "fraudstream.connection"
"""Extension of a request's scope, in which its connection is found."""
WHOLE: Final = "fraudstream.whole"
"""Extension of the scope of a request whose body has come."""


class Connection:
    """The connection under a response whose body is sent in parts (RFC 9112, section 7.1)."""

    __slots__ = ("_flow", "_transport", "is_chunked")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self.is_chunked = True
        """Whether such a body is framed; else the connection's end is its end."""
        self._transport = transport
        self._flow = flow

    def bound(self, buffer_bytes: int) -> None:
        """Bound what the kernel holds for a peer that doesn't read; by default it grows to 4 MB."""
        if not self._transport.is_closing():
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)

    def write(self, chunk: bytes, framed: bytes) -> bool:
        """Write a part of the body as is due here; False, and nothing written, if much is waiting.

        Or if the connection has gone: uvloop raises where asyncio is silent, and whoever streams
        into it is told of its end only some turns of the loop later.
        """
        transport = self._transport
        if transport.is_closing() or transport.get_write_buffer_size() > HIGH_WATER_LIMIT:
            return False
        transport.write(framed if self.is_chunked else chunk)
        return True

    def rest(self, seconds: float) -> None:
        """Read nothing more from the client for a while: its next request waits in its socket."""
        transport = self._transport
        if not transport.is_closing():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        # What uvicorn has paused meanwhile, as nobody takes it, it will resume itself.
        if not self._transport.is_closing() and not self._flow.read_paused:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, dropping what is waiting."""
        self._transport.abort()


def connection_of(scope: Scope) -> Connection | None:
    """Give the connection under a request; None where another server runs the application."""
    extension = scope.get("extensions", {}).get(CONNECTION)
    return extension["connection"] if extension else None


def is_whole(scope: Scope) -> bool:
    """Whether the request's body is here already, so that to receive it takes no time."""
    return WHOLE in scope.get("extensions", ())


def framed(chunk: bytes) -> bytes:
    """Frame a part of a body as HTTP/1.1 sends it."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)
