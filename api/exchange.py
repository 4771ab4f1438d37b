"""One exchange on a connection: a request, and its answer as it is written.

uvicorn makes a system call for an answer's head and one for its body; most are written in one here.
"""

from typing import ClassVar, Final

from uvicorn._types import ASGISendEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.edge import requestid

_FORBIDDEN: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
"""What must not stand in a header (RFC 9110, section 5.5): it would end it, or worse."""
_FRAMING: Final = frozenset((b"connection", b"transfer-encoding"))
"""Headers that say where a message or its connection ends."""


class Exchange(RequestResponseCycle):
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
                headers = [*head["headers"], (requestid.HEADER, self._request_id)]
                await super().send({**head, "headers": headers})
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
        text = b"\t".join(lines)
        if text != text.translate(None, _FORBIDDEN):  # half of what a regular expression takes
            return None
        if length != b"%d" % len(body) or self.scope["method"] == "HEAD":
            return None
        lines.append(b"x-request-id: " + self.scope[requestid.SCOPE].encode())  # type: ignore[typeddict-item]
        lines += joined(self.default_headers)
        if not self.keep_alive:
            lines.append(b"connection: close")
        return b"%b%b\r\n\r\n%b" % (STATUS_LINE[head["status"]], b"\r\n".join(lines), body)

    @property
    def _request_id(self) -> bytes:
        of: str = self.scope[requestid.SCOPE]  # type: ignore[typeddict-item]
        return of.encode()

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


class _Joined:
    """The headers of every answer as they are written; uvicorn makes them once a second."""

    headers: ClassVar[list[tuple[bytes, bytes]]] = []
    lines: ClassVar[list[bytes]] = []


def joined(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Give the lines of those headers that every answer has."""
    if headers is not _Joined.headers:
        _Joined.headers = headers
        _Joined.lines = [b"\r\n".join([b"%b: %b" % header for header in headers])] * bool(headers)
    return _Joined.lines
