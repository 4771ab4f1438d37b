"""What is a request, and what is none: RFC 9110 and 9112, where the parser asks for less."""

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from api.edge.connections import HEADER_BYTES
from api.parsing import MAX_HEADERS
from tests.raw import DEADLINE_S, POST, Reading, Taking, answer, connected, request, start

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


@pytest.mark.parametrize(
    "ends",
    [H2C.replace(b"Upgrade,", b"Upgrade, close,"), H2C],
    ids=["closes", "1.0"],
)
async def test_the_last_request_may_ask_for_another_protocol(ends: bytes) -> None:
    """The parser, for which such a connection has ended, reads it all the same."""
    version = "1.0" if ends == H2C else "1.1"
    received = await answer(request("/whole", version).replace(b"host", ends + b"host"))

    assert received.startswith(b"HTTP/1.1 200 OK")


async def test_any_number_of_requests_may_ask_for_another_protocol() -> None:
    """Of a pipeline, too, which comes in one piece."""
    asking = b"GET /whole HTTP/1.1\r\nhost: test\r\n" + H2C + b"\r\n"
    received = await answer(*[asking] * 2_000, request("/whole", "1.0"))

    assert received.count(b"HTTP/1.1 200 OK") == 2_001


LINE = b"GET /whole HTTP/1.1\r\n"
HOST = b"host: test\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
END = b"\r\n"
NO_REQUESTS = {
    "bare line feeds": b"GET /whole HTTP/1.1\nhost: test\n\n",
    "a line feed in the head": LINE + b"host: test\na: b\r\n\r\n",
    "a line feed at its end": LINE + HOST + b"\n",
    "a bare carriage return": LINE + b"host: test\ra: b\r\n\r\n",
    "a folded line": LINE + HOST + b"a: b\r\n c\r\n\r\n",
    "a space before the colon": LINE + b"host : test\r\n\r\n",
    "a space before the first line": LINE + b" host: test\r\n\r\n",
    "two lengths": LINE + HOST + b"content-length: 0\r\n" * 2 + END,
    "a list of lengths": LINE + HOST + b"content-length: 0, 0\r\n\r\n",
    "a length and chunks": LINE + HOST + b"content-length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunks and a length": LINE + HOST + CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": LINE + HOST + CHUNKED * 2 + b"\r\n0\r\n\r\n",
    "compressed": LINE + HOST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another coding": LINE + HOST + b"transfer-encoding: identity\r\n\r\n",
    "chunks in HTTP/1.0": LINE.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n",
    "HTTP/2.0": LINE.replace(b"1.1", b"2.0") + HOST + END,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": LINE.replace(b"1.1", b"1.2") + HOST + END,
    "HTTP/0.9": LINE.replace(b"1.1", b"0.9") + HOST + END,
    "no version": b"GET /whole\r\n\r\n",
    "HTTP/2.0, if it may": LINE.replace(b"1.1", b"2.0") + HOST + H2C + END,
    "no host": LINE + END,
    "two hosts": LINE + HOST * 2 + END,
    "two hosts in one": LINE + b"host: test, other\r\n\r\n",
    "a path for a host": LINE + b"host: test/whole\r\n\r\n",
    "a user for a host": LINE + b"host: me@test\r\n\r\n",
    "no port": LINE + b"host: test:a\r\n\r\n",
    "another scheme": LINE.replace(b"/whole", b"ftp://test/whole") + HOST + END,
    "a user in the target": LINE.replace(b"/whole", b"http://me@test/whole") + HOST + END,
    "a tunnel": b"CONNECT test:80 HTTP/1.1\r\n" + HOST + END,
}


@pytest.mark.parametrize("sent", NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
async def test_what_is_no_request_is_a_400_and_the_end(sent: bytes) -> None:
    """The application does not see it, nor what comes behind it."""
    application = Taking()
    async with connected(application) as (reader, writer):
        writer.write(sent + POST + b"\r\n{}")
        received = await reader.read()

    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head
    assert json.loads(body)["code"] == "bad-request"
    assert not application.called.is_set()
    assert application.taken == []


@pytest.mark.parametrize(
    "head",
    [
        b"a: " + b"b" * HEADER_BYTES + END,
        b"a: b\r\n" * (HEADER_BYTES // 8),
        b"a:\r\n" * MAX_HEADERS,
    ],
    ids=["long line", "long", "many lines"],
)
async def test_a_head_that_is_too_large_is_a_431_in_one_piece_too(head: bytes) -> None:
    """However it comes, and whatever the first reading brings of it."""
    received = await answer(LINE + HOST + head + END)

    assert received.startswith(b"HTTP/1.1 431 ")
    assert received.count(b"HTTP/1.1") == 1


async def test_a_large_body_makes_no_large_head() -> None:
    """Though both come in one piece."""
    body = b" " * 2 * HEADER_BYTES
    application = Taking()
    async with connected(application) as (reader, writer):
        writer.write(POST.replace(b" 2", b" %d" % len(body)) + END + body)
        received = await reader.read()

    assert received.startswith(b"HTTP/1.1 200 ")


async def seen(head: bytes) -> dict[str, Any]:
    """Give what an application sees of a request with this head."""
    found: dict[str, Any] = {}

    async def application(scope: Scope, _receive: Receive, send: Send) -> None:
        found.update(scope)
        await send(start((b"content-length", b"0")))
        await send({"type": "http.response.body", "body": b""})

    async with connected(application) as (reader, writer):
        writer.write(head + b"connection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    return found


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        ("/a?b", b"test", "/a", b"b"),
        ("http://other:80/a?b", b"other:80", "/a", b"b"),
        ("HTTPS://other/", b"other", "/", b""),
        ("http://other", b"other", "/", b""),
        ("http://[::1]?b", b"[::1]", "/", b"b"),
    ],
)
async def test_the_host_in_a_target_is_the_one_that_counts(
    target: str, host: bytes, path: str, query: bytes
) -> None:
    """Whatever Host says (RFC 9112, section 3.2.2): who checks it checks that one."""
    scope = await seen(f"GET {target} HTTP/1.1\r\n".encode() + HOST)

    assert [value for name, value in scope["headers"] if name == b"host"] == [host]
    assert (scope["path"], scope["query_string"]) == (path, query)


async def test_white_space_round_a_value_is_no_part_of_it() -> None:
    """Before it or behind it (RFC 9110, section 5.5); within it stays."""
    scope = await seen(LINE + b"host:\ttest \t\r\na:  b \t c \r\nd: \r\n")

    assert scope["headers"][:3] == [(b"host", b"test"), (b"a", b"b \t c"), (b"d", b"")]


async def test_who_speaks_http_1_0_is_not_told_to_go_on() -> None:
    """It does not know that answer (RFC 9110, section 10.1.1)."""
    asked = POST.replace(b"1.1", b"1.0") + b"expect: 100-continue\r\n\r\n{}"
    async with connected(Taking()) as (reader, writer):
        writer.write(asked)
        received = await reader.read()

    assert received.startswith(b"HTTP/1.1 200 ")


KEPT = POST.replace(b"connection: close\r\n", b"").replace(b"/taken", b"/kept") + b"\r\n{}"
NO_CHUNK = LINE + HOST + CHUNKED + b"\r\nnone\r\n"


@pytest.mark.parametrize(
    ("between", "wrong"),
    [
        (0, b"this is no request\r\n\r\n"),
        (0, LINE + b"a: b\r\n" * HEADER_BYTES + b"last: b\r\n"),
        (0, NO_CHUNK),
        (2, NO_CHUNK),
        (2, b"this is no request\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_what_came_before_is_answered_all_the_same(
    between: int, wrong: bytes, *, at_once: bool
) -> None:
    """What it brought may be in Kafka: who has no answer sends it again, and has it there twice."""
    application = Taking()
    read = Reading()
    behind = (LINE + HOST + END) * between + wrong
    async with connected(application, read.http) as (reader, writer):
        writer.write(KEPT + behind if at_once else KEPT)
        await asyncio.wait_for(application.asked.wait(), DEADLINE_S)
        if not at_once:
            writer.write(behind)
        await read.until(wrong[-8:])
        application.taken[0].answer(*application.answer(b"kept"))
        received = await reader.read()

    assert received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1 ") == 1 + between
    assert received.count(b"\r\n\r\nkept") == 1
    assert received.count(b"connection: close") == 1
    assert received.rindex(b"HTTP/1.1 ") < received.index(b"connection: close")


async def test_a_request_that_was_answered_is_not_answered_again_for_its_body() -> None:
    """A client would take it for the answer to its next request."""
    async with connected() as (reader, writer):
        writer.write(LINE + HOST + CHUNKED + END)
        await reader.readuntil(b"ok")
        writer.write(b"none\r\n")
        assert await reader.read() == b""
