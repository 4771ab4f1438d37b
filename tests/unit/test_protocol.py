"""HTTP/1.1 as the gateway speaks it: answers in one piece or more, pipelines, idle connections."""

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from api import listener
from api.transport import Connection
from tests.raw import DEADLINE_S, IDLE_S, POST, Taking, answer, connected, request, start


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


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_client_of_http_1_0_is_sent_no_chunks(method: str) -> None:
    """It does not know them: where nothing tells a body's length, it ends with the connection."""
    head, _, body = (await answer(request("/parts", "1.0", method))).partition(b"\r\n\r\n")

    assert body == (b"ok" if method == "GET" else b"")
    assert b"transfer-encoding" not in head
    assert [line for line in head.split(b"\r\n") if b"connection" in line] == [b"connection: close"]


async def test_a_client_that_asks_for_it_is_told_once_that_the_connection_closes() -> None:
    """Also where the application says that it stays."""
    asked = request("/parts").replace(b"host", b"connection: close\r\nhost")
    head, _, _ = (await answer(asked)).partition(b"\r\n\r\n")

    assert [line for line in head.split(b"\r\n") if b"connection" in line] == [b"connection: close"]


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    """The time counts from the last answer, not from the first."""
    async with connected() as (reader, writer):
        for _ in range(4):
            writer.write(request("/whole"))
            await reader.readuntil(b"ok")
            await asyncio.sleep(IDLE_S / 2)
        assert await reader.read() == b""


def test_connections_that_wait_are_accepted_in_few_turns() -> None:
    """A busy gateway's turns are long, and whoever checks its health comes by a new connection."""
    count = listener.ACCEPTED_IN_A_TURN

    async def accept(waiting: socket.socket) -> int:
        accepted: list[asyncio.BaseTransport] = []

        class Accepting(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.append(transport)
                transport.close()

        loop = asyncio.get_running_loop()
        doors = listener.doors(waiting)
        servers = [await loop.create_server(Accepting, sock=door) for door in doors]
        for _ in range(3):
            await asyncio.sleep(0)
        in_three_turns = len(accepted)
        for server in servers:
            server.close()
        return in_three_turns

    with ExitStack() as stack:
        waiting = stack.enter_context(listener.bind("127.0.0.1", 0))
        for _ in range(count):
            stack.enter_context(socket.create_connection(waiting.getsockname()))
        assert uvloop.run(accept(waiting)) == count


async def test_a_pipeline_is_answered_in_order_whoever_answers() -> None:
    """What stands behind a request that was taken waits for its answer."""
    kept = POST.replace(b"connection: close\r\n", b"").replace(b"/taken", b"/kept") + b"\r\n{}"
    application = Taking()
    async with connected(application) as (reader, writer):
        writer.write(kept + POST + b"\r\n{}")
        await asyncio.wait_for(application.asked.wait(), DEADLINE_S)
        assert not application.called.is_set()
        application.taken[0].answer(*application.answer(b"kept"))
        received = await reader.read()

    assert received.index(b"kept") < received.index(b"called")
    assert len(application.taken) == 1


async def test_a_body_that_nobody_takes_is_not_read_on_after_a_rest() -> None:
    """The end of a rest does not undo that a connection was paused for what waits on it."""
    length = 16 << 20
    head = request("/reads-late", method="POST").removesuffix(b"\r\n")
    head += b"content-length: %d\r\n\r\n" % length
    async with connected() as (reader, writer):
        writer.write(request("/rests") + request("/rests-long") + head + bytes(length))
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
        read = int(await reader.readexactly(9))
        writer.transport.abort()

    assert HIGH_WATER_LIMIT < read < length // 4


async def test_a_client_that_leaves_is_noticed_by_the_answer_under_way() -> None:
    """Also when another request of its own stands behind that, as one may behind a stream."""
    left = asyncio.Event()

    async def streaming(_scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with connected(streaming) as (reader, writer):
        writer.write(request("/stream") + request("/behind"))
        await reader.readuntil(b"first")
        writer.transport.abort()
        await asyncio.wait_for(left.wait(), DEADLINE_S)


def test_nothing_is_written_to_a_connection_that_has_gone() -> None:
    """uvloop raises where asyncio is silent: one client's end would be everybody's."""

    async def write_late() -> bool:
        ours, theirs = socket.socketpair()
        with theirs:
            _, writer = await asyncio.open_connection(sock=ours)
            connection = Connection(writer.transport, FlowControl(writer.transport))
            assert connection.write(b"a", b"1\r\na\r\n")
            writer.transport.abort()
            await writer.wait_closed()
            return connection.write(b"b", b"1\r\nb\r\n")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert not runner.run(write_late())
