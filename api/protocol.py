"""HTTP/1.1 on a connection: uvicorn's, cheaper, and with less that a client can hold on to."""

import asyncio
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from api.edge import requestid
from api.edge.addresses import unmapped
from api.edge.connections import Connections
from api.exchange import Exchange, Known, Taker, joined
from api.heads import Head, Heads
from api.problems import BAD_REQUEST, Problem
from api.transport import CONNECTION, WHOLE, Connection
from wire import logs

MAX_HEADERS: Final = 100
"""Most header lines of one request."""


class Protocol(HttpToolsProtocol):
    """Puts connection and request id into each request's scope; notes when its body is whole.

    Three things are cheaper than in uvicorn, as they are done for every request: an answer in one
    piece is written in one, one timer watches over a connection for all of its life, and a whole
    request whose head has come before is not parsed, if it is one that the application takes.

    And a client can hold on to less: connections are counted, a request's header must arrive in
    time and is bounded, and so is what a client sends that brings no request on (chunk extensions,
    trailers). What is refused here is answered with a problem, too.
    """

    _idle_since: float | None = None
    """Since when nothing has come after an answer."""
    _due: float | None = None
    """When the header that is awaited has to be there."""
    _watch: asyncio.TimerHandle | None = None
    _is_counted = False
    _has_host = False
    _given_id: bytes | None = None
    _unparsed = 0
    """Bytes that have come and brought neither a header's end nor a part of a body."""
    _upgrades = False
    """Whether the request whose header has come wants to go on in another protocol."""
    _between = True
    """Whether what comes next begins a request."""
    _new: tuple[Exchange, ASGI3Application] | None = None
    """A request whose header is among what is being read, and which is next to be answered."""
    _answering: RequestResponseCycle | None = None
    """Whose answer was begun last; there may be more behind it."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections | None = None,
        heads: Heads | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = connections or _UNBOUNDED
        self._heads = heads or Heads()
        self._taker: Taker | None = getattr(self.app, "taker", None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, or refuse it."""
        super().connection_made(transport)
        self._connection = Connection(transport, self.flow)
        if self.client is not None:
            self.client = (unmapped(self.client[0]), self.client[1])
        refusal = self._bounds.enter(self._peer)
        if refusal is not None:
            self._refuse(refusal)
            return
        self._is_counted = True
        seconds = self._bounds.header_seconds
        self._due = self.loop.time() + seconds
        self._watch = self.loop.call_later(
            min(seconds, self.timeout_keep_alive), self._close_if_waiting
        )

    @property
    def _peer(self) -> str | None:
        """Whose connection this is; None: another process of the gateway."""
        if self.server is not None and self.server == self._bounds.own:
            return None
        return self.client[0] if self.client is not None else ""

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._idle_since = None
        begins = self._between
        known = self._heads.find(data) if begins else None
        if known is not None and self._takes(*known):
            return
        self._unparsed += len(data)
        left: bytes | memoryview = data
        try:
            while left:
                try:
                    self.parser.feed_data(left)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    left = memoryview(left)[upgrade.args[0] :] if self._stays() else b""
        except httptools.HttpParserError:
            self._refuse(Problem(BAD_REQUEST, "this is no HTTP/1.1 request"))
        else:
            if self._unparsed > self._bounds.header_bytes:
                self._refuse(self._bounds.too_large())
        if self._new is not None:
            (exchange, app), self._new = self._new, None
            self._answering = exchange
            if known is not None or not self._offer(exchange, app, data if begins else b""):
                super()._start_asgi_task(exchange, app)

    def _takes(self, head: Head, body: bytes) -> bool:
        """Have a request taken that need not be parsed; False, and nothing done, if it must be."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # it has to wait behind another
        scope = {**head.scope, "client": self.client, requestid.SCOPE: requestid.made()}
        exchange = Known(
            scope,
            body,
            (self.transport, self.flow),
            self.server_state.default_headers,
            self.on_response_complete,
        )
        if not exchange.is_whole or not head.take(exchange):
            return False
        self.cycle = self._answering = exchange
        self._unparsed = 0
        return True

    def _stays(self) -> bool:
        """Read a request that wants to go on in another protocol as if it did not.

        As a server may (RFC 9110, 7.8). Java's client asks for HTTP/2 with its first request, and
        the parser takes the body of such a one for the other protocol. False: it goes.
        """
        if not self._upgrades:  # CONNECT: what follows can't be told from anything else
            self.cycle.keep_alive = False
            return False
        self._upgrades = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        head = b"\r\n".join([b"%b %b HTTP/%b" % (method, self.url, version), *lines])
        self.parser.feed_data(head + b"\r\n\r\n")
        return True

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._between = False
        self._has_host = False
        self._given_id = None
        self.scope["extensions"] = {CONNECTION: {"connection": self._connection}}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        name = name.lower()
        if name == b"host":
            if self._has_host:
                raise ValueError("more than one Host")  # for the parser, and a 400
            self._has_host = True
        elif name == requestid.HEADER:
            self._given_id = value
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrades = True
            return
        self._unparsed = 0
        if not self._has_host and self.parser.get_http_version() == "1.1":
            raise ValueError("no Host")  # RFC 9112, section 3.2
        if len(self.headers) > MAX_HEADERS:
            raise ValueError("too many headers")
        given = self._given_id
        self.scope[requestid.SCOPE] = (  # type: ignore[typeddict-unknown-key]
            requestid.made() if given is None else requestid.taken(given)
        )
        super().on_headers_complete()
        self.cycle.__class__ = Exchange  # uvicorn has no other way to say of what class it is
        self.headers = []  # of no use are trailers, which come the same way

    def on_body(self, body: bytes) -> None:
        """Take a part of a request's body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._upgrades:
            return
        super().on_message_complete()
        self._between = True
        self._unparsed = 0
        self.scope["extensions"][WHOLE] = {}

    def on_response_complete(self) -> None:
        """Begin the next request, or to be idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._answering = cycle
            super()._start_asgi_task(cycle, app)
        else:
            self._idle_since = self.loop.time()
            self._due = None
            if self._watch is None:
                self._watch = self.loop.call_later(self.timeout_keep_alive, self._close_if_waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        super().connection_lost(exc)
        answering = self._answering
        if answering is not None and answering is not self.cycle:
            # uvicorn tells the last one that came, which may stand behind a stream for ever.
            answering.disconnected = True
            answering.message_event.set()
        if self._watch is not None:
            self._watch.cancel()
        if self._is_counted:
            self._is_counted = False
            self._bounds.leave(self._peer)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def _close_if_waiting(self) -> None:
        """End a connection that has been idle, or has had its time for a header.

        That time begins when this is called first while one is awaited, so that nothing need be
        noted of requests that come whole, as nearly all do.
        """
        self._watch = None
        now = self.loop.time()
        if self._idle_since is not None:
            until = self._idle_since + self.timeout_keep_alive
        elif self.cycle is not None and not self.cycle.response_complete:
            return  # busy; its answer's end begins the next wait
        else:
            until = self._due = self._due or now + self._bounds.header_seconds
        if until > now:
            self._watch = self.loop.call_later(until - now, self._close_if_waiting)
        elif self._unparsed and self._idle_since is None:
            self._refuse(self._bounds.late())
        else:
            self.timeout_keep_alive_handler()

    def _refuse(self, problem: Problem) -> None:
        """Answer what does not come to be a request, and close the connection."""
        cycle = self.cycle
        is_unanswered = cycle is not None and cycle.more_body and not cycle.response_started
        if cycle is None or cycle.response_complete or (is_unanswered and not self.pipeline):
            request_id = requestid.made()
            token = logs.request_id.set(request_id)
            response = problem.response()
            logs.request_id.reset(token)
            lines = [b"%b: %b" % header for header in response.raw_headers]
            lines.append(b"%b: %b" % (requestid.HEADER, request_id.encode()))
            lines += [*joined(self.server_state.default_headers), b"connection: close"]
            head = STATUS_LINE[response.status_code] + b"\r\n".join(lines)
            self.transport.write(head + b"\r\n\r\n" + response.body)
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._new = cast("Exchange", cycle), app  # its body may have come with the header

    def _offer(self, exchange: Exchange, app: ASGI3Application, data: bytes) -> bool:
        """Have a whole request taken as it is; `data` begins with it, if there is any."""
        if self._taker is None or app is not self.app or not exchange.is_whole:
            return False
        take = self._taker(exchange.scope)
        if take is None or not take(exchange):
            return False
        if data and exchange.keep_alive and self._given_id is None:
            self._heads.note(data, exchange.scope, len(exchange.body), take)
        return True


_UNBOUNDED: Final = Connections()
