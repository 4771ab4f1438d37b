"""POST /transactions under hostile bodies and connections: each has a defined answer."""

import asyncio
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.trust import TRUST
from wire.settings import KafkaSettings

JSON = "application/json"
NDJSON = "application/x-ndjson"
VALID = b'{"source":"a","target":"b","amount":1}'
Until = Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]
HELD = "fraudstream_api_body_bytes{"
HEAD = b"POST /transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\n"


def with_source(text: bytes) -> bytes:
    """Give a body with these bytes for an account."""
    return b'{"source":"%b","target":"b","amount":1}' % text


def with_amount(token: bytes) -> bytes:
    """Give a body with this token for an amount."""
    return b'{"source":"a","target":"b","amount":%b}' % token


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "not-json"),
        (b"   ", 400, "not-json"),
        (b"\x00", 400, "not-json"),
        (b"{", 400, "not-json"),
        (VALID + b"x", 400, "not-json"),
        (VALID + VALID, 400, "not-json"),
        (b"\xef\xbb\xbf" + VALID, 400, "not-json"),
        (VALID.decode().encode("utf-16"), 400, "not-json"),
        (VALID.decode().encode("utf-32"), 400, "not-json"),
        (with_source(b"\xff"), 400, "not-json"),
        (with_source(b"\xed\xa0\x80"), 400, "not-json"),
        (with_amount(b'"\xff","amount":1'), 400, "not-json"),
        (with_source(rb"\ud800"), 400, "not-json"),
        (with_source(rb"\udc00\ud800"), 400, "not-json"),
        (with_amount(b"NaN"), 400, "not-json"),
        (with_amount(b"Infinity"), 400, "not-json"),
        (with_amount(b"01"), 400, "not-json"),
        (b'{"source":' + b"[" * 10_000, 400, "not-json"),
        (b"[" * 1_000_000, 400, "not-json"),
        (b"[1,", 400, "not-json"),
        (b"null", 422, "invalid-transaction"),
        (b'"x"', 422, "invalid-transaction"),
        (b"{}", 422, "invalid-transaction"),
        (b"[]", 422, "invalid-transaction"),
        (b"[[]]", 422, "invalid-transaction"),
        (with_source(rb"\u0000"), 422, "invalid-transaction"),
        (with_source(rb"a\n"), 422, "invalid-transaction"),
        (with_amount(b"1e999999999"), 422, "invalid-transaction"),
        (with_amount(b"1" * 10_000), 422, "invalid-transaction"),
        (with_amount(b'"NaN"'), 422, "invalid-transaction"),
        (with_amount(b"1.00001"), 422, "invalid-transaction"),
        (with_amount(b"-0"), 422, "invalid-transaction"),
        (with_amount(b"true"), 422, "invalid-transaction"),
        (with_amount(b"1") [:-1] + b',"amount":1000}', 422, "invalid-transaction"),
        (with_amount(b"1" * 5_000 + b',"amount":1'), 422, "invalid-transaction"),
        (with_amount(b"1" * 10_000_000), 413, "too-large"),
        (b"[" + b",".join([VALID] * 20_000) + b"]", 413, "too-large"),
        (b"[" + b"1," * 200_000 + b"1]", 413, "too-large"),
        (b" " * 2_000_000, 413, "too-large"),
    ],
)  # fmt: skip
async def test_a_hostile_body_has_a_defined_answer(
    shared_gateway: httpx.AsyncClient, body: bytes, status: int, code: str
) -> None:
    """Bad input is a 4xx problem, never a 5xx."""
    response = await shared_gateway.post(
        "/transactions", content=body, headers={"Content-Type": JSON}
    )

    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (problem["status"], problem["retriable"]) == (status, False)
    assert {"type", "title", "detail"} <= problem.keys()


HOSTILE_LINES = {
    b"\x00": "not-json",
    b"{": "not-json",
    VALID + VALID: "not-json",
    b"\xef\xbb\xbf" + VALID: "not-json",
    with_source(b"\xed\xa0\x80"): "not-json",
    with_amount(b'"\xff","amount":1'): "not-json",
    with_source(rb"\ud800"): "not-json",
    with_amount(b"NaN"): "not-json",
    b'{"source":' + b"[" * 10_000: "not-json",
    b"[" + VALID + b"]": "invalid-transaction",
    b"null": "invalid-transaction",
    with_source(b"\x7f"): "invalid-transaction",
    with_source(b"\xc2\x85"): "invalid-transaction",
    with_source(rb"\u0000"): "invalid-transaction",
    with_amount(b"0.00"): "invalid-transaction",
    with_amount(b"1e999999999"): "invalid-transaction",
    with_amount(b'"1,2"'): "invalid-transaction",
    with_amount(b'1,"amount":1000'): "invalid-transaction",
    with_amount(b"1" * 5_000 + b',"amount":1'): "invalid-transaction",
    with_amount(b"1" * 20_000): "too-large",
}


async def test_a_hostile_line_is_refused_alone(
    gateway: httpx.AsyncClient, stored: Callable[[], Awaitable[Any]]
) -> None:
    """Each line of NDJSON has its own answer; those between hostile ones are in Kafka."""
    body = b"\n".join(VALID + b"\n" + line for line in HOSTILE_LINES)
    response = await gateway.post("/transactions", content=body, headers={"Content-Type": NDJSON})

    results = response.json()["results"]
    assert response.status_code == 207
    assert [each["status"] for each in results[::2]] == [202] * len(HOSTILE_LINES)
    assert [each["error"]["code"] for each in results[1::2]] == [*HOSTILE_LINES.values()]
    assert len(await stored()) == len(HOSTILE_LINES)


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({}, False),
        ({"Content-Type": ""}, False),
        ({"Content-Type": "text/json"}, False),
        ({"Content-Type": "application/x-www-form-urlencoded"}, False),
        ({"Content-Type": "application/json; charset=latin-1"}, False),
        ({"Content-Type": JSON, "Content-Encoding": "gzip"}, False),
        ({"Content-Type": JSON, "Content-Encoding": "identity, gzip"}, False),
        ({"Content-Type": 'Application/JSON ; Charset="UTF-8"'}, True),
        ({"Content-Type": "application/json; version=1", "Content-Encoding": "identity"}, True),
    ],
)
async def test_only_plain_json_in_utf8_is_taken(
    shared_gateway: httpx.AsyncClient, headers: dict[str, str], accepted: bool
) -> None:
    """415 for another media type, charset or encoding: nothing is ever decompressed."""
    body = gzip.compress(VALID) if "gzip" in headers.get("Content-Encoding", "") else VALID
    response = await shared_gateway.post("/transactions", content=body, headers=headers)

    assert response.status_code == (202 if accepted else 415)


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (VALID + b" " * 256, "max_transaction_bytes"),
        (b"[" + VALID + b" " * 1024 + b"]", "max_array_bytes"),
        (b"[1,2,3]", "max_batch_records"),
        (b"1\n2\n3", "max_batch_records"),
        (b"1\n" * 1025, "max_body_bytes"),
    ],
)
async def test_a_refusal_names_the_limit(small_gateway: str, body: bytes, limit: str) -> None:
    """A 413 says which setting the request is over; what was accepted before is told."""
    content_type = NDJSON if body.startswith(b"1") else JSON
    async with httpx.AsyncClient(base_url=small_gateway, verify=TRUST) as client:
        response = await client.post(
            "/transactions", content=body, headers={"Content-Type": content_type}
        )

    assert (response.status_code, response.json()["limit"]) == (413, limit)
    assert ("results" in response.json()) == (content_type == NDJSON)


async def test_a_record_that_was_cut_off_is_not_taken(
    gateway: httpx.AsyncClient, stored: Callable[[], Awaitable[Any]]
) -> None:
    """A client that goes away in mid-body leaves the whole lines only."""
    async with connection(gateway) as (_, writer):
        whole = VALID + b"\n" + VALID
        writer.write(HEAD % NDJSON.encode() + b"Content-Length: 1000\r\n\r\n" + whole)
        await writer.drain()
    async with connection(gateway) as (_, writer):
        writer.write(HEAD % JSON.encode() + b"Content-Length: 1000\r\n\r\n" + VALID)
        await writer.drain()
    await gateway.post("/transactions", content=VALID, headers={"Content-Type": JSON})

    assert len(await stored()) == 2


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
async def test_bodies_under_way_are_bounded_together(
    kafka_settings: KafkaSettings,
    serve_gateway: Callable[..., Any],
    until: Until,
    content_type: str,
) -> None:
    """503 for a body once others hold what all may hold; a single transaction is taken."""
    many = b"[" + b",".join([VALID] * 300) + b"]"
    if content_type == NDJSON:
        many = b"\n".join([VALID] * 300)
    headers = {"Content-Type": content_type}
    async with serve_gateway(kafka_settings, max_body_bytes_in_flight=65_536) as client:

        async def held() -> int:
            lines = (await client.get("/metrics")).text.splitlines()
            return int(float(next(x for x in lines if x.startswith(HELD)).rpartition(" ")[2]))

        async def much_is_held() -> bool:
            return await held() >= 60_000

        async def nothing_is_held() -> bool:
            return await held() == 0

        async with connection(client) as (_, writer):
            writer.write(HEAD % JSON.encode() + b"Content-Length: 1000000\r\n\r\n")
            writer.write(b"[" + b" " * 60_000)
            await until(much_is_held)
            refused = await client.post("/transactions", content=many, headers=headers)
            single = await client.post(
                "/transactions", content=VALID, headers={"Content-Type": JSON}
            )
        await until(nothing_is_held)
        alone = await client.post("/transactions", content=many, headers=headers)
        await until(nothing_is_held)

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (503, "overloaded")
    assert (problem["limit"], problem["retriable"]) == ("max_body_bytes_in_flight", True)
    assert refused.headers["Retry-After"] == "1"
    assert (single.status_code, alone.status_code) == (202, 202)


@pytest.mark.parametrize("content_type", [JSON, NDJSON])
async def test_a_body_that_trickles_is_given_up(
    kafka_settings: KafkaSettings, serve_gateway: Callable[..., Any], content_type: str
) -> None:
    """408 when a body has not arrived in body_timeout, and the connection is closed."""
    async with (
        serve_gateway(kafka_settings, body_timeout=0.3) as client,
        connection(client) as (reader, writer),
    ):
        writer.write(HEAD % content_type.encode() + b"Content-Length: 1000\r\n\r\n")

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(VALID + b"\n")
                    await writer.drain()
                    await asyncio.sleep(0.1)

        trickling = asyncio.create_task(trickle())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        [length] = re.findall(r"(?i)^content-length: (\d+)", head, re.MULTILINE)
        body = await reader.readexactly(int(length))
        # What still comes in meets a closed socket, and that may reset the connection.
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        trickling.cancel()
        await asyncio.wait([trickling])

    assert head.startswith("HTTP/1.1 408 ")
    assert "connection: close" in head
    problem = json.loads(body)
    assert problem["code"] == "body-timeout"
    if content_type == NDJSON:
        assert problem["accepted"] == len(problem["results"]) > 0


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: nine\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_wrong_framing_is_a_400(shared_gateway: httpx.AsyncClient, framing: bytes) -> None:
    """A length that is none ends the connection with a 400."""
    async with connection(shared_gateway) as (reader, writer):
        writer.write(HEAD % JSON.encode() + framing)
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.fixture(scope="module")
def small_gateway(
    shared_settings: KafkaSettings, start_gateway: Callable[..., Any]
) -> Iterator[str]:
    """A gateway with small limits."""
    limits = {
        "max_transaction_bytes": 256,
        "max_array_bytes": 1024,
        "max_batch_records": 2,
        "max_body_bytes": 2048,
    }
    with start_gateway(shared_settings, **limits) as url:
        yield url


@contextlib.asynccontextmanager
async def connection(
    client: httpx.AsyncClient,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a bare connection to the gateway of a client."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
