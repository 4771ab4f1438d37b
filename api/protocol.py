"""HTTP/1.1 on a connection: uvicorn's, cheaper, and with less that a client can hold on to."""

import asyncio
from typing import Any, Final

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from api.edge import requestid
from api.edge.addresses import unmapped
from api.edge.connections import Connections
from api.exchange import Exchange, Known, Taker, joined
from api.heads import Head, Heads
from api.parsing import Parsing
from api.problems import Problem
from api.transport import Connection
from wire import logs

LINGER_S: Final = 1.0
"""How long a client that was refused has to read why before the connection is closed."""
LINGER_BYTES: Final = 1 << 20
"""Most bytes that are dropped of what it sends meanwhile."""


class Protocol(Parsing):
    """Has each request answered, and the connection end in time.

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
    _is_refused = False
    """Whether nothing more is read: the connection ends with the answers that are due."""
    _unheard: int | None = None
    """Bytes that may yet come and be dropped, of a client that was refused."""
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
        super().__init__(config, server_state, app_state, connections)
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
        if self._is_refused:
            self._drop(len(data))
            return
        self._idle_since = None
        begins = self._between
        known = self._heads.find(data) if begins else None
        if known is not None and self._takes(*known):
            return
        problem = self._parse(data)
        new, self._new = self._new, None
        if new is not None:
            self._answering = new[0]
        if problem is not None:
            self._refuse(problem)
            if new is not None and new[0].more_body:
                return  # it is its own problem
        if new is not None and (known or not self._offer(*new, data if begins else b"")):
            self._start(*new)

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

    def on_response_complete(self) -> None:
        """Begin the next request, or to be idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._answering = cycle
            self._start(cycle, app)
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
        """Answer what does not come to be a request, and close the connection.

        Requests that came before it are answered first: what they brought may be in Kafka by now.
        """
        self._is_refused = True
        cycle: RequestResponseCycle | None = self.cycle
        is_own = self._in_body
        if is_own and self.pipeline:  # of a request behind others
            self.pipeline.popleft()
            is_own = False
            cycle = self.pipeline[0][0] if self.pipeline else self._answering
        if cycle is not None and not is_own and not cycle.response_started:
            cycle.keep_alive = False  # its answer is the last
            return
        if cycle is None or not cycle.response_started or (cycle.response_complete and not is_own):
            self._tell(problem)
        if self._is_counted and not is_own and (cycle is None or cycle.response_complete):
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Close the connection when the client has heard why, or a while later.

        To close it while something comes is to reset it, and a client that is reset may never read
        what was sent to it before (RFC 9112, section 9.6).
        """
        if not self.transport.can_write_eof():  # over TLS
            self.transport.close()
            return
        self.transport.write_eof()
        self._unheard = LINGER_BYTES
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self.loop.call_later(LINGER_S, self.transport.close)

    def _drop(self, count: int) -> None:
        if self._unheard is not None:
            self._unheard -= count
            if self._unheard < 0:
                self.transport.close()

    def _tell(self, problem: Problem) -> None:
        request_id = requestid.made()
        token = logs.request_id.set(request_id)
        response = problem.response()
        logs.request_id.reset(token)
        lines = [b"%b: %b" % header for header in response.raw_headers]
        lines.append(b"%b: %b" % (requestid.HEADER, request_id.encode()))
        lines += [*joined(self.server_state.default_headers), b"connection: close"]
        head = STATUS_LINE[response.status_code] + b"\r\n".join(lines)
        self.transport.write(head + b"\r\n\r\n" + response.body)

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
