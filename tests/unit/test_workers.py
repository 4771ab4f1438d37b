"""Asking the other processes: in time, and with nobody else's credential."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request

from api.settings import ApiSettings
from api.workers import Workers

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: session=anna\r\n\r\nhi"


@asynccontextmanager
async def other(answer: bytes, *, pause_s: float = 0) -> AsyncIterator[tuple[Workers, list[bytes]]]:
    """Serve one answer byte by byte; give who asks there, and what it was asked."""
    heads: list[bytes] = []
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                for byte in answer:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(pause_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            left.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    workers = Workers(ApiSettings(api_worker=1, api_workers_at=f"127.0.0.1:1,127.0.0.1:{port}"))
    yield workers, heads
    await workers.stop()
    await asyncio.wait_for(left.wait(), 20)
    server.close()


def asker(*headers: tuple[bytes, bytes]) -> Request:
    """Give a request with these headers."""
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [*headers]}
    return Request(scope)


async def test_what_one_asker_is_given_is_not_shown_for_the_next() -> None:
    """The askers share a client, but neither its cookies nor each other's credentials."""
    async with other(ANSWER) as (workers, heads):
        asked = asker((b"authorization", b"Bearer anna"), (b"cookie", b"a=b"), (b"x-other", b"1"))
        heard = [await workers.ask("/", each) for each in (asked, asker())]
    assert [(each.answers[0].content, each.unheard) for each in heard] == [(b"hi", 0)] * 2
    first, second = (head.lower() for head in heads)
    assert b"authorization: bearer anna" in first
    assert b"cookie: a=b" in first
    assert b"x-other" not in first
    assert b"authorization" not in second
    assert b"cookie" not in second


async def test_one_that_answers_without_end_is_left_out() -> None:
    """The patience is for the whole of an answer, not for each of its bytes."""
    async with other(ANSWER, pause_s=0.2) as (workers, heads), asyncio.timeout(10):
        assert await workers.ask("/", asker()) == ([], 1)
    assert len(heads) == 1
