"""One exchange on a connection: a request, and its answer as it is written.

uvicorn makes a system call for an answer's head and one for its body; most are written in one here.

And most requests come whole, too. An application may take such a one as it is and answer it later,
from wherever that is known: that spares a task, its wake-ups, and an event for each step.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

from starlette.types import Scope
from uvicorn._types import ASGISendEvent, HTTPResponseStartEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from api.edge import requestid
from api.problems import Problem
from api.transport import connection_of
from wire import logs

_FORBIDDEN: Final = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])
"""What must not stand in a header (RFC 9110, section 5.5): it would end it, or worse."""
_FRAMING: Final = frozenset((b"connection", b"transfer-encoding"))
"""Headers that say where a message or its connection ends."""

Headers = Iterable[tuple[bytes, bytes]]


class Exchange(RequestResponseCycle):
    """A request and its answer, which is written in one if its body comes in one piece.

    The head waits for the first of the body, as the ASGI specification has servers do.
    """

    scope: Scope  # type: ignore[assignment] # uvicorn's own type knows no extensions
    _head: HTTPResponseStartEvent | None = None
    _ends_by_closing = False
    """Whether the end of the connection is that of the body, whose length nothing tells."""

    @property
    def is_whole(self) -> bool:
        """Whether the request is here, body and all, and its answer can go out when it is made."""
        return not (
            self.more_body
            or self.waiting_for_100_continue
            or self.flow.write_paused
            or self.transport.is_closing()
        )

    @property
    def request_id(self) -> str:
        """The request's id."""
        return str(self.scope[requestid.SCOPE])

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer a request that was taken, if its client is still there."""
        if self.transport.is_closing():  # not all of a pipeline's requests are told `disconnected`
            return
        whole = self._whole(status, headers, body)
        assert whole is not None  # noqa: S101 - its length is told, and it is not framed otherwise
        self._write(whole)
        self.on_response = _nothing  # uvicorn's task does the same: the connection is let go of

    def answer_written(self, head: bytes, body: bytes) -> None:
        """Answer a request that was taken with a head that needs no looking through.

        Args:
            head: status line and headers, with the body's length, without the last line's end.
            body: of that length.
        """
        if self.transport.is_closing():
            return
        lines = [head, b"x-request-id: " + self.request_id.encode(), *joined(self.default_headers)]
        if not self.keep_alive:
            lines.append(b"connection: close")
        lines += (b"", body)
        self._write(b"\r\n".join(lines))
        self.on_response = _nothing

    def refuse(self, problem: Problem) -> None:
        """Answer a request that was taken with a problem."""
        token = logs.request_id.set(self.request_id)
        response = problem.response()
        logs.request_id.reset(token)
        self.answer(response.status_code, response.raw_headers, bytes(response.body))

    async def send(self, message: ASGISendEvent) -> None:
        """Take one event of the answer (ASGI)."""
        if not self.response_started:
            if message["type"] == "http.response.start":
                self._head = message  # anew, where the application failed after its first
                return
            head = self._head
            if head is not None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    whole = self._whole(head["status"], head["headers"], message.get("body", b""))
                    if whole is not None:
                        if self.flow.write_paused and not self.disconnected:
                            await self.flow.drain()
                        self._write(whole)
                        return
                headers = [*head["headers"], (requestid.HEADER, self.request_id.encode())]
                self._choose_framing(headers)
                if not self.keep_alive:  # whatever the application says of the connection
                    headers = [each for each in headers if each[0] != b"connection"]
                await super().send({**head, "headers": headers})
        if self._ends_by_closing and message["type"] == "http.response.body":
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)

    def _choose_framing(self, headers: Headers) -> None:
        """Send no chunks to who may not know them (RFC 9112, section 6.1), where uvicorn would."""
        if self.scope["http_version"] == "1.1" or any(
            name == b"content-length" for name, _ in headers
        ):
            return
        self.keep_alive = False
        self.chunked_encoding = False
        self._ends_by_closing = True
        connection = connection_of(self.scope)
        if connection is not None:
            connection.is_chunked = False

    def _whole(self, status: int, headers: Headers, body: bytes) -> bytes | None:
        """Put head and body together; None for an answer that wants more of uvicorn."""
        length = b""
        lines: list[bytes] = []
        for name, value in headers:
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
        lines.append(b"x-request-id: " + self.request_id.encode())
        lines += joined(self.default_headers)
        if not self.keep_alive:
            lines.append(b"connection: close")
        return b"%b%b\r\n\r\n%b" % (STATUS_LINE[status], b"\r\n".join(lines), body)

    def _write(self, whole: bytes) -> None:
        if self.disconnected:
            return
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(whole)
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _nothing() -> None:
    """Do nothing: there is nobody to be told any more."""


class _Unheard(asyncio.Event):
    """The event of requests for which nothing waits."""

    def set(self) -> None:
        """Tell nobody."""


class Known(Exchange):
    """An exchange whose request came whole, under a head that is known (api/heads.py).

    Of what uvicorn notes of each request, the most is the same for all of these; what their answers
    by ASGI would need is left out.
    """

    more_body = False
    waiting_for_100_continue = False
    keep_alive = True
    disconnected = False
    response_started = False
    response_complete = False
    message_event: asyncio.Event = _Unheard()

    def __init__(
        self,
        scope: Scope,
        body: bytes,
        connection: tuple[asyncio.Transport, FlowControl],
        default_headers: list[tuple[bytes, bytes]],
        on_response: Callable[..., None],
    ) -> None:
        self.scope = scope
        self.body = body  # type: ignore[assignment] # uvicorn gathers it in a bytearray
        self.transport, self.flow = connection
        self.default_headers = default_headers
        self.on_response = on_response


Take = Callable[[Exchange], bool]
"""Takes a whole request, to answer it once, now or later.

Or leaves it as it was, and gives False: then the application is called for it (ASGI). Whatever
fails must be answered, too.
"""
Taker = Callable[[Scope], Take | None]
"""An application's method `taker`: tells by a request's head alone who may take such requests.

For the same head it must tell the same each time; what changes is for who takes them.
"""


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
