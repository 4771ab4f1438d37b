"""Requests as they are parsed: uvicorn's, held to what RFC 9110 and 9112 ask of them."""

import re
from typing import Any, Final, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.edge import requestid
from api.edge.connections import Connections
from api.exchange import Exchange
from api.problems import BAD_REQUEST, HEADER_TOO_LARGE, Problem
from api.transport import CONNECTION, WHOLE, Connection

MAX_HEADERS: Final = 100
"""Most header lines of one request."""
_VERSIONS: Final = ("1.1", "1.0")
_host: Final = re.compile(rb"(?:[\w.~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?").fullmatch
# In absolute form, as a proxy is asked: whom for, and the rest (RFC 9112, section 3.2.2).
_absolute: Final = re.compile(rb"https?://([^/?]+)([/?].*)?", re.IGNORECASE).fullmatch
_UNBOUNDED: Final = Connections()


class Parsing(HttpToolsProtocol):
    """Puts connection and request id into each request's scope; notes when its body is whole.

    What the parser takes for a request though it is none, or is one that two could read in two
    ways, is refused: a callback raises the problem.
    """

    _connection: Connection
    _has_host = False
    _is_coded = False
    """Whether the request has a Transfer-Encoding."""
    _given_id: bytes | None = None
    _unparsed = 0
    """Bytes that have come and brought neither a header's end nor a part of a body."""
    _upgrades = False
    """Whether the request whose header has come wants to go on in another protocol."""
    _between = True
    """Whether what comes next begins a request."""
    _in_body = False
    """Whether what comes next belongs to the body of the request that came last."""
    _new: tuple[Exchange, ASGI3Application] | None = None
    """A request whose header is among what is being read, and which is next to be answered."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        bounds: Connections | None,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._bounds = bounds or _UNBOUNDED

    def _parse(self, data: bytes) -> Problem | None:
        """Parse what has come; give the problem if it is no request."""
        self._unparsed += len(data)
        left: bytes | memoryview = data
        try:
            while left:
                try:
                    self.parser.feed_data(left)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    end = upgrade.args[0]
                left = memoryview(left)[end:] if self._stays() else b""
        except httptools.HttpParserError as error:
            found = error.__context__  # what a callback raised
            return found if isinstance(found, Problem) else _wrong("this is no HTTP/1.1 request")
        return self._bounds.too_large() if self._unparsed > self._bounds.header_bytes else None

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
        # Anew: to this one a connection that is not kept alive has gone.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(head + b"\r\n\r\n")
        return True

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._between = self._has_host = self._is_coded = False
        self._given_id = None
        self.scope["extensions"] = {CONNECTION: {"connection": self._connection}}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        name = name.lower()
        value = value.rstrip(b" \t")  # the parser leaves it (RFC 9110, section 5.5)
        if name == b"host":
            if self._has_host:
                raise _wrong("there is more than one Host")
            if not _host(value):
                raise _wrong("Host is malformed")
            self._has_host = True
        elif name == requestid.HEADER:
            self._given_id = value
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise _wrong("Transfer-Encoding must be chunked, and nothing else")
            self._is_coded = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin to answer a request."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrades = True
            return
        self._check_head()
        self._unparsed = 0
        if not self.url.startswith((b"/", b"*")):
            self._take_absolute()
        given = self._given_id
        self.scope[requestid.SCOPE] = (  # type: ignore[typeddict-unknown-key]
            requestid.made() if given is None else requestid.taken(given)
        )
        super().on_headers_complete()
        self.cycle.__class__ = Exchange  # uvicorn has no other way to say of what class it is
        self.headers = []  # of no use are trailers, which come the same way
        self._in_body = True

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise _wrong("this is no HTTP/1.1 request")
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
            if self._is_coded:  # two could differ in where it ends (RFC 9112, section 6.1)
                raise _wrong("HTTP/1.0 has no Transfer-Encoding")
        elif not self._has_host:
            raise _wrong("there is no Host")  # RFC 9112, section 3.2
        if len(self.headers) > MAX_HEADERS:
            raise Problem(HEADER_TOO_LARGE, f"at most {MAX_HEADERS} header lines are taken")
        most = self._bounds.header_bytes
        if self._unparsed > most:  # it, or what came with it
            lines = sum(len(name) + len(value) + 4 for name, value in self.headers)
            if len(self.url) + lines > most:
                raise self._bounds.too_large()

    def _take_absolute(self) -> None:
        """Take a target with a host in it, which is the one that counts."""
        found = _absolute(self.url)
        if found is None or not _host(found[1]):
            raise _wrong("the request's target is malformed")
        rest = found[2] or (b"*" if self.parser.get_method() == b"OPTIONS" else b"/")
        self.url = rest if rest[:1] in (b"/", b"*") else b"/" + rest
        others = [header for header in self.headers if header[0] != b"host"]
        self.headers[:] = [(b"host", found[1]), *others]

    def on_body(self, body: bytes) -> None:
        """Take a part of a request's body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        if self._upgrades:
            return
        super().on_message_complete()
        self._between, self._in_body = True, False
        self._unparsed = 0
        self.scope["extensions"][WHOLE] = {}

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._new = cast("Exchange", cycle), app  # its body may have come with the header

    def _start(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Call an application for a request."""
        super()._start_asgi_task(cycle, app)


def _wrong(detail: str) -> Problem:
    return Problem(BAD_REQUEST, detail)
