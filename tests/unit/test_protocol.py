"""HTTP/1.1 as the gateway speaks it: answers in one piece or more, pipelines, idle connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from api import listener
from api.protocol import Protocol

IDLE_S = 1


def start(*headers: tuple[bytes, bytes]) -> Message:
    """Begin an answer."""
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


async def app(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer as the path says."""
    match scope["path"]:
        case "/whole":
            await send(start((b"content-length", b"2")))
            await send({"type": "http.response.body", "body": b"ok"})
        case "/parts":
            await send(start())
            await send({"type": "http.response.body", "body": b"o", "more_body": True})
            await send({"type": "http.response.body", "body": b"k"})
        case "/fails":
            await send(start((b"content-length", b"2")))
            raise ValueError("on purpose")
        case "/injects":
            await send(start((b"content-length", b"0"), (b"location", b"/a\r\nset-cookie: b")))
            await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server of that application."""
    sock = listener.bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=Protocol, lifespan="off", log_config=None, timeout_keep_alive=IDLE_S
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


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        (request("/whole"), b"ok"),
        (request("/parts"), b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"),
        (request("/fails"), b"Internal Server Error"),
        (request("/whole", method="HEAD"), b""),
    ],
    ids=["whole", "parts", "fails", "head"],
)
async def test_an_answer_ends_where_it_says(asked: bytes, body: bytes) -> None:
    """The body is what the application sent, or a 500 where it failed before its body."""
    head, _, rest = (await answer(asked)).partition(b"\r\n\r\n")

    assert rest == body
    assert head.startswith(b"HTTP/1.1 500" if body.startswith(b"Internal") else b"HTTP/1.1 200")


async def test_a_header_with_a_line_feed_is_never_sent() -> None:
    """Nothing can be put into an answer by way of a header's value: there is none then."""
    assert await answer(request("/injects")) == b""


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Requests that come at once are answered one after the other, on the same connection."""
    received = await answer(request("/whole"), request("/parts"), request("/whole"))

    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.index(b"chunked") < received.rindex(b"content-length")


async def test_a_client_of_http_1_0_is_told_that_the_connection_closes() -> None:
    """Nothing is kept alive that did not ask to be."""
    assert b"connection: close" in await answer(request("/whole", "1.0"))


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    """The time counts from the last answer, not from the first."""
    async with connected() as (reader, writer):
        began = asyncio.get_running_loop().time()
        for _ in range(4):
            writer.write(request("/whole"))
            await reader.readuntil(b"ok")
            await asyncio.sleep(IDLE_S / 2)
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - began > 2 * IDLE_S
