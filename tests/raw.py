"""HTTP/1.1 by hand: a server of a small application, and a bare connection to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import listener
from api.exchange import Exchange, Take
from api.protocol import Protocol
from api.transport import connection_of

IDLE_S = 1
REST_S = 0.1
DEADLINE_S = 20
POST = b"POST /taken HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 2\r\n"


def start(*headers: tuple[bytes, bytes]) -> Message:
    """Begin an answer."""
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as the path says."""
    match scope["path"]:
        case "/rests" | "/rests-long":
            await send(start((b"content-length", b"0")))
            await send({"type": "http.response.body", "body": b""})
            connection = connection_of(scope)
            assert connection is not None
            connection.rest(REST_S if scope["path"] == "/rests" else 4 * REST_S)
        case "/reads-late":
            await asyncio.sleep(8 * REST_S)
            await send(start((b"content-length", b"9")))
            body = (await receive())["body"]
            await send({"type": "http.response.body", "body": b"%9d" % len(body)})
        case "/whole":
            await send(start((b"content-length", b"2")))
            await send({"type": "http.response.body", "body": b"ok"})
        case "/parts":
            await send(start((b"connection", b"keep-alive")))  # as sse-starlette does
            await send({"type": "http.response.body", "body": b"o", "more_body": True})
            await send({"type": "http.response.body", "body": b"k"})
        case "/fails":
            await send(start((b"content-length", b"2")))
            raise ValueError("on purpose")
        case "/injects":
            await send(start((b"content-length", b"0"), (b"location", b"/a\r\nset-cookie: b")))
            await send({"type": "http.response.body", "body": b""})


class Taking:
    """Takes what it may, and says in each answer whether it did."""

    def __init__(self, padding: int = 0) -> None:
        self.taken: list[Exchange] = []
        self.asked = asyncio.Event()
        self.called = asyncio.Event()
        self._padding = b" " * padding

    def taker(self, scope: Scope) -> Take | None:
        """Take what is not to be left."""
        return None if scope["path"] == "/left" else self.take

    def take(self, exchange: Exchange) -> bool:
        """Take a request and answer it in the next turn, unless it is one to keep or to leave."""
        if exchange.body == b"no":
            return False
        self.taken.append(exchange)
        self.asked.set()
        if exchange.scope["path"] != "/kept":
            asyncio.get_running_loop().call_soon(exchange.answer, *self.answer(b"taken"))
        return True

    def answer(self, text: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Give an answer with this text."""
        body = text + self._padding
        return 200, [(b"content-length", b"%d" % len(body))], body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what was not taken."""
        assert scope["type"] == "http"
        self.called.set()
        while (await receive()).get("more_body"):
            pass
        _, headers, body = self.answer(b"called")
        await send(start(*headers))
        await send({"type": "http.response.body", "body": body})


class Reading:
    """What a server has read of a connection, piece by piece."""

    def __init__(self) -> None:
        self._pieces = pieces = asyncio.Queue[bytes]()

        class Telling(Protocol):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                pieces.put_nowait(data)

        self.http: type[Protocol] = Telling

    async def next(self) -> bytes:
        """Give the next piece."""
        return await asyncio.wait_for(self._pieces.get(), DEADLINE_S)

    async def until(self, end: bytes) -> None:
        """Wait until what ends so was read."""
        while not (await self.next()).endswith(end):
            pass


@asynccontextmanager
async def connected(
    application: ASGIApp = app, http: type[Protocol] = Protocol
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server of that application."""
    sock = listener.bind("127.0.0.1", 0)
    config = uvicorn.Config(
        application,
        http=http,
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=IDLE_S,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.should_exit = True
        await running
        sock.close()


async def answer(*requests: bytes) -> bytes:
    """Send requests at once on one connection; give all that comes until it is closed."""
    async with connected() as (reader, writer):
        writer.write(b"".join(requests))
        return await reader.read()


def request(path: str, version: str = "1.1", method: str = "GET") -> bytes:
    """Write a request."""
    return f"{method} {path} HTTP/{version}\r\nhost: test\r\n\r\n".encode()
