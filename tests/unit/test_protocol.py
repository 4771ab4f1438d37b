"""HTTP/1.1 as the gateway speaks it: answers in one piece or more, pipelines, idle connections."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl

from api import listener
from api.edge import requestid
from api.exchange import Exchange, Known, Take
from api.heads import MOST_BYTES, MOST_HEADS, Heads
from api.protocol import Protocol
from api.transport import Connection, connection_of

IDLE_S = 1
REST_S = 0.1
DEADLINE_S = 20


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
        began = asyncio.get_running_loop().time()
        for _ in range(4):
            writer.write(request("/whole"))
            await reader.readuntil(b"ok")
            await asyncio.sleep(IDLE_S / 2)
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - began > 2 * IDLE_S


POST = b"POST /taken HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 2\r\n"


@pytest.mark.parametrize(
    ("parts", "by"),
    [
        ([POST + b"\r\n{}"], b"taken"),
        ([POST.replace(b"/1.1", b"/1.0") + b"\r\n{}"], b"taken"),
        ([POST.replace(b"/taken", b"/left") + b"\r\n{}"], b"called"),
        ([POST + b"\r\n", b"{}"], b"called"),
        ([POST + b"\r\n{", b"}"], b"called"),
        ([POST + b"expect: 100-continue\r\n\r\n{}"], b"called"),
    ],
    ids=["whole", "1.0", "left", "header first", "in two", "expects to be asked"],
)
async def test_only_a_whole_request_is_taken(parts: list[bytes], by: bytes) -> None:
    """An application is offered what came whole, and is called for all that it does not take."""
    application = Taking()
    async with connected(application) as (reader, writer):
        writer.write(parts[0])
        for part in parts[1:]:
            await asyncio.wait_for(application.called.wait(), DEADLINE_S)
            writer.write(part)
        received = await reader.read()

    assert received.endswith(b"\r\n\r\n" + by)
    assert b"connection: close" in received


HEAD = POST.replace(b"connection: close\r\n", b"") + b"\r\n"


async def test_a_head_that_came_before_is_not_parsed_again() -> None:
    """Its request is the same to who takes it, with its own body and an id of its own."""
    application = Taking()
    async with connected(application) as (reader, writer):
        for body in (b"{}", b"[]"):
            writer.write(HEAD + body)
            await reader.readuntil(b"taken")

    first, second = application.taken
    assert [isinstance(each, Known) for each in application.taken] == [False, True]
    assert [bytes(each.body) for each in application.taken] == [b"{}", b"[]"]
    assert first.request_id != second.request_id
    parsed, known = (
        {key: value for key, value in each.scope.items() if key != requestid.SCOPE}
        for each in application.taken
    )
    assert known == {key: parsed[key] for key in known}


@pytest.mark.parametrize(
    ("parts", "by"),
    [
        ([HEAD, b"{}"], [b"called"]),
        ([HEAD + b"{", b"}"], [b"called"]),
        ([HEAD[:-1], HEAD[-1:] + b"{}"], [b"taken"]),
        ([HEAD + b"no"], [b"called"]),
        ([b"\r\n" + HEAD + b"{}"], [b"taken"]),
        ([HEAD + b"{}" + HEAD + b"{}"], [b"taken", b"called"]),
        ([HEAD.replace(b" 2", b" 3") + b"{ }" + HEAD + b"{}"], [b"taken", b"called"]),
        ([HEAD + b"{}" + POST[:9], POST[9:] + b"\r\n{}"], [b"taken", b"taken"]),
    ],
    ids=["body later", "in two", "head in two", "left", "empty line", "two", "longer", "and more"],
)
async def test_a_head_that_came_before_is_known_by_all_of_it(
    parts: list[bytes], by: list[bytes]
) -> None:
    """What does not come as it came then is parsed, and so is what follows."""
    application = Taking()
    read = asyncio.Queue[bytes]()

    class Telling(Protocol):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            read.put_nowait(data)

    async with connected(application, Telling) as (reader, writer):
        for _ in range(2):
            writer.write(HEAD + b"{}")
            await reader.readuntil(b"taken")
            await read.get()
        before = len(application.taken)
        for part in parts:
            writer.write(part)
            assert await asyncio.wait_for(read.get(), DEADLINE_S) == part
        for each in by:
            head, _, rest = (await reader.readuntil(each)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert rest == each

    assert not any(isinstance(each, Known) for each in application.taken[before:])


def test_heads_are_forgotten_before_they_are_too_many() -> None:
    """Who sends another head each time fills no memory, and who sends a large one none at all."""
    heads = Heads()
    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b""}
    scope |= {"http_version": "1.1", "headers": []}
    sent = [b"POST / HTTP/1.1\r\nn: %d\r\n\r\n{}" % number for number in range(MOST_HEADS + 1)]
    large = sent[0].replace(b" 0", b" " * MOST_BYTES)
    known = []
    for data in [large, *sent]:
        heads.note(data, scope, 2, lambda _: True)
        known.append([heads.find(each) is not None for each in (large, sent[0], data)])

    assert known == [[False] * 3, *[[False, True, True]] * MOST_HEADS, [False, False, True]]


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


async def test_a_client_that_does_not_read_is_not_taken_from() -> None:
    """Else the answers to all that it sends would gather in the connection's buffer."""
    application = Taking(padding=1_000_000)
    async with connected(application) as (_, writer), asyncio.timeout(DEADLINE_S):
        while not application.called.is_set():
            application.asked.clear()
            writer.write(POST.replace(b"connection: close\r\n", b"") + b"\r\n{}")
            either = [
                asyncio.create_task(e.wait()) for e in (application.asked, application.called)
            ]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for task in either:
                task.cancel()

    assert application.called.is_set()


async def test_an_answer_to_a_client_that_has_left_is_dropped() -> None:
    """A request may be answered long after its connection has gone."""
    application = Taking()
    async with connected(application) as (_, writer):
        writer.write(POST.replace(b"/taken", b"/kept") + b"\r\n{}")
        await asyncio.wait_for(application.asked.wait(), DEADLINE_S)
        exchange = application.taken[0]
        exchange.transport.abort()
        exchange.answer(*application.answer(b"late"))

    assert not exchange.response_started


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


H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


@pytest.mark.parametrize(
    ("asks", "by"),
    [
        ([b"content-length: 2\r\n\r\n{}"], b"taken"),
        ([b"content-length: 2\r\n\r\n", b"{}"], b"called"),
        ([b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"], b"taken"),
    ],
    ids=["whole", "header first", "chunked"],
)
async def test_who_asks_for_another_protocol_is_answered_in_this_one(
    asks: list[bytes], by: bytes
) -> None:
    """Body and all, and the connection goes on: Java's client asks for HTTP/2 by itself."""
    head = b"POST /taken HTTP/1.1\r\nhost: test\r\n" + H2C
    application = Taking()
    async with connected(application) as (reader, writer):
        writer.write(head + asks[0])
        for part in asks[1:]:
            await asyncio.wait_for(application.called.wait(), DEADLINE_S)
            writer.write(part)
        first = await reader.readuntil(b"\r\n\r\n" + by)
        writer.write(POST + b"\r\n{}")
        second = await reader.read()

    assert first.startswith(b"HTTP/1.1 200 OK")
    assert second.endswith(b"\r\n\r\ntaken")


async def test_any_number_of_requests_may_ask_for_another_protocol() -> None:
    """Of a pipeline, too, which comes in one piece."""
    asking = b"GET /whole HTTP/1.1\r\nhost: test\r\n" + H2C + b"\r\n"
    received = await answer(*[asking] * 2_000, request("/whole", "1.0"))

    assert received.count(b"HTTP/1.1 200 OK") == 2_001
