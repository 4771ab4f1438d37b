"""The edge of a running gateway: hosts, origins, proxies, limits, connections, ids, audit."""

import asyncio
import json
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access.principal import PRINCIPAL, Principal
from tests.streaming import GatewayProcess, gateways
from wire.settings import TopicSettings

TRANSACTION = {"source": "anna", "target": "ben", "amount": "1"}
APP = "https://app.example"
NDJSON = {"Content-Type": "application/x-ndjson"}
Serve = Callable[..., Any]
PATHS = ("/", "/stream/fraud?raw=1", "/transactions/x", "/metrics", "/docs", "/none", "/healthz")


@pytest.fixture(scope="module")
def gateway(shared_settings: TopicSettings) -> Iterator[GatewayProcess]:
    """A gateway process as it is started by default."""
    with gateways(shared_settings) as (process,):
        asyncio.run(process.ready())
        yield process


def said(gateway: GatewayProcess, *parts: bytes) -> bytes:
    """Send bytes on a connection of their own; give all that comes until it is closed."""
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as sock:
        for part in parts:
            sock.sendall(part)
        received = b""
        while chunk := sock.recv(65_536):
            received += chunk
        return received


def problem_of(answer: bytes) -> dict[str, Any]:
    """Read the problem in an answer."""
    problem: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return problem


# --- hosts


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/transactions", *PATHS])
def test_another_name_for_loopback_is_refused(
    gateway: GatewayProcess, method: str, path: str
) -> None:
    """A page that had its name point here (DNS rebinding) gets nothing, wherever it asks."""
    answer = httpx.request(
        method, gateway.url + path, headers={"Host": "rebound.example"}, timeout=30
    )
    assert answer.status_code == 421
    if method != "HEAD":
        problem = answer.json()
        assert (problem["code"], problem["limit"]) == ("unknown-host", "api_allowed_hosts")
        assert problem["request_id"] == answer.headers["x-request-id"]


async def test_names_are_answered_to_that_are_set(
    shared_settings: TopicSettings, serve_gateway: Serve
) -> None:
    """Beside localhost and addresses, which stay."""
    async with serve_gateway(shared_settings, api_allowed_hosts="*.example.com") as client:
        statuses = [
            (await client.get("/healthz", headers={"Host": host})).status_code
            for host in ("a.example.com:443", "localhost", "[::1]", "example.com", "b.example")
        ]
    assert statuses == [200, 200, 200, 421, 421]


@pytest.mark.parametrize("head", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
def test_a_request_is_for_one_host(gateway: GatewayProcess, head: bytes) -> None:
    """None, or two, is a 400 (RFC 9112, section 3.2)."""
    answer = said(gateway, b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert problem_of(answer)["code"] == "bad-request"


# --- origins


async def test_pages_of_allowed_origins_may_use_the_api(
    shared_settings: TopicSettings, serve_gateway: Serve
) -> None:
    """Preflight, POST, look-up and stream; what they need to read they are shown."""
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    wanted = "authorization, content-type, prefer, last-event-id"
    async with serve_gateway(shared_settings, api_cors_origins=APP) as client:
        path = "/transactions"
        preflight = await client.options(
            path, headers=asked | {"Access-Control-Request-Headers": wanted}
        )
        posted = await client.post(path, json=TRANSACTION, headers={"Origin": APP})
        refused = await client.post(path, json={}, headers={"Origin": APP})
        async with client.stream("GET", "/stream/all", headers={"Origin": APP}) as stream:
            pass
        other = await client.post(
            path, json=TRANSACTION, headers={"Origin": "https://evil.example"}
        )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == APP
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert [posted.status_code, refused.status_code, other.status_code] == [202, 422, 202]
    for answer in (posted, refused, stream):
        assert answer.headers["access-control-allow-origin"] == APP
        assert "Origin" in answer.headers["vary"]
        shown = answer.headers["access-control-expose-headers"]
        assert {"Location", "Retry-After", "RateLimit", "X-Request-ID"} <= set(shown.split(", "))
    assert "access-control-allow-origin" not in other.headers


async def test_other_origins_are_refused_what_they_ask_for_first(
    shared_settings: TopicSettings, serve_gateway: Serve
) -> None:
    """By a problem; so is another method or header. With a star nobody's cookies count."""
    asked = {"Access-Control-Request-Method": "POST"}
    async with serve_gateway(shared_settings, api_cors_origins="*") as client:
        preflight = await client.options("/transactions", headers=asked | {"Origin": APP})
        deletes = await client.options(
            "/transactions", headers={"Origin": APP, "Access-Control-Request-Method": "DELETE"}
        )
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in preflight.headers
    assert (deletes.status_code, deletes.json()["code"]) == (400, "origin-refused")
    async with serve_gateway(shared_settings, api_cors_origins=APP) as client:
        headers = asked | {"Origin": "https://evil.example"}
        evil = await client.options("/transactions", headers=headers)
    assert (evil.status_code, evil.json()["detail"]) == (400, "not allowed: origin")


async def test_without_origins_there_is_no_cors(shared_gateway: httpx.AsyncClient) -> None:
    """Nothing is allowed to any other page."""
    answer = await shared_gateway.post("/transactions", json=TRANSACTION, headers={"Origin": APP})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- ids and headers


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_an_id_and_is_no_other_type(gateway: GatewayProcess, path: str) -> None:
    """Ours, another each time; and browsers do not guess what it is."""
    seen = set()
    for _ in range(2):
        with httpx.stream("GET", gateway.url + path, timeout=30) as answer:
            seen.add(answer.headers["x-request-id"])
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-123/4=:", True), ("a" * 129, False), ('"x"', False), ("a b", False)]
)
@pytest.mark.parametrize("body", [TRANSACTION, {}])
def test_a_clients_id_comes_back(
    gateway: GatewayProcess, sent: str, body: dict[str, str], *, kept: bool
) -> None:
    """On the answer and in the problem, unless it is long or odd."""
    answer = httpx.post(
        gateway.url + "/transactions", json=body, headers={"X-Request-ID": sent}, timeout=30
    )
    assert (answer.headers["x-request-id"] == sent) is kept
    if answer.status_code == 422:
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_pipelined_requests_have_their_own_ids(gateway: GatewayProcess) -> None:
    """Each answer has that of its request."""
    request = b"GET /none HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: r-%d\r\n%b\r\n"
    last = b"Connection: close\r\n"
    answer = said(gateway, b"".join(request % (n, last * (n == 2)) for n in range(3)))
    assert [answer.count(b'"request_id": "r-%d"' % n) for n in range(3)] == [1, 1, 1]
    assert [answer.count(b"x-request-id: r-%d\r\n" % n) for n in range(3)] == [1, 1, 1]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["Host", "Origin", "X-Request-ID", "X-Forwarded-For", "X-Forwarded-Proto", "Prefer",
                 "Accept", "Content-Type", "Expect", "Upgrade", "Connection", "Last-Event-ID",
                 "Cookie", "Authorization", "Access-Control-Request-Method", "traceparent"]
            ),
            st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60),
        ),
        max_size=6,
    ),
    st.sampled_from(["GET /healthz", "POST /transactions", "GET /none", "OPTIONS /transactions"]),
)  # fmt: skip
def test_no_header_makes_it_fail(
    gateway: GatewayProcess, headers: list[tuple[str, str]], what: str
) -> None:
    """Whatever stands in a header, the answer is no 5xx, or there is none as it is no HTTP."""
    lines = [f"{name}: {value}" for name, value in [("Host", "localhost"), *headers]]
    head = "\r\n".join([f"{what} HTTP/1.1", *lines, "Content-Length: 0", "Connection: close"])
    answer = said(gateway, head.encode("latin-1") + b"\r\n\r\n")
    assert answer[:9] == b"HTTP/1.1 "
    assert answer[9:10] in b"24"


# --- connections


def test_a_header_that_trickles_or_never_comes_is_given_up(shared_settings: TopicSettings) -> None:
    """408 for what was begun, the end for what was not; and others are served meanwhile."""
    with gateways(shared_settings, api_header_timeout=0.5) as (process,):
        asyncio.run(process.ready())
        began = time.monotonic()
        assert said(process) == b""
        answer = said(process, b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert problem_of(answer)["code"] == "header-timeout"
        assert answer.startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(("127.0.0.1", process.port), 30) as sock:
            sock.settimeout(0.1)
            got = b""
            for piece in b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 200:  # a byte at a time
                sock.sendall(bytes([piece]))
                try:
                    got = sock.recv(65_536)
                    break
                except TimeoutError:
                    continue
            assert got.startswith(b"HTTP/1.1 408 ")
        assert httpx.get(process.url + "/healthz").status_code == 200
        assert time.monotonic() > began


@pytest.mark.parametrize(
    "head",
    [b"a: " + b"b" * 100_000, b"a: b\r\n" * 20_000, b"a" * 100_000],
    ids=["value", "lines", "name"],
)
def test_an_endless_header_is_refused(gateway: GatewayProcess, head: bytes) -> None:
    """431, with the setting's name, before there is much of it."""
    answer = said(gateway, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + head)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert problem_of(answer)["limit"] == "api_header_bytes"


def test_endless_trailers_end_the_connection(gateway: GatewayProcess) -> None:
    """What is sent after a body's end, and brings nothing on, is bounded too."""
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as sock:
        sock.sendall(head)
        endless = (b"a: " + b"b" * 10_000 + b"\r\n") * 10_000
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            sock.sendall(endless)


def test_connections_are_capped(shared_settings: TopicSettings) -> None:
    """In all, and from one address; who goes makes room."""
    with gateways(shared_settings, api_connections_per_address=3) as (process,):
        asyncio.run(process.ready())
        with ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(httpx.Client(base_url=process.url, timeout=30))
                assert client.get("/healthz").status_code == 200
            answer = said(process)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert problem_of(answer)["limit"] == "api_connections_per_address"
            assert b"retry-after: 1\r\n" in answer.lower()
        assert httpx.get(process.url + "/healthz").status_code == 200
    with gateways(shared_settings, api_connections=2) as (process,):
        asyncio.run(process.ready())
        with ExitStack() as stack:
            for _ in range(2):
                client = stack.enter_context(httpx.Client(base_url=process.url, timeout=30))
                assert client.get("/healthz").status_code == 200
            answer = said(process)
        assert (answer[9:12], problem_of(answer)["code"]) == (b"503", "overloaded")


# --- limits


async def test_an_address_is_held_to_its_rate(
    shared_settings: TopicSettings, serve_gateway: Serve
) -> None:
    """Burst, then 429 with when to come back; health is free; all answers say what is left."""
    async with serve_gateway(
        shared_settings, limit_address_rate=0.02, limit_address_burst=3
    ) as client:
        answers = [await client.post("/transactions", json=TRANSACTION) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 202]
        assert [answer.headers["ratelimit"] for answer in answers] == [
            '"address";r=2;t=100', '"address";r=1;t=50', '"address";r=0;t=1',
        ]  # fmt: skip
        assert answers[0].headers["ratelimit-policy"] == '"address";q=3;w=150'
        for path in ("/transactions", "/stream/all", "/metrics", "/none"):
            refused = await client.get(path)
            assert refused.status_code == 429
            problem = refused.json()
            assert (problem["code"], problem["limit"]) == (
                "too-many-requests",
                "limit_address_rate",
            )
            assert 45 <= int(refused.headers["retry-after"]) <= 50
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("form", ["array", "lines", "lines cut short"])
async def test_a_batch_is_worth_its_transactions(
    shared_settings: TopicSettings, serve_gateway: Serve, form: str
) -> None:
    """It is taken whole, and its client waits until all of it is paid."""
    body = [TRANSACTION] * 50
    async with serve_gateway(
        shared_settings, limit_address_rate=1, limit_address_burst=10
    ) as client:
        if form == "array":
            answer = await client.post("/transactions", json=body)
        else:
            lines = "\n".join(map(json.dumps, body)) + "\n" + "x" * 20_000 * (form != "lines")
            answer = await client.post("/transactions", content=lines, headers=NDJSON)
        assert answer.json()["accepted"] == 50
        assert answer.headers["ratelimit"] == '"address";r=0;t=1'
        refused = await client.post("/transactions", json=TRANSACTION)
        assert refused.status_code == 429
        assert 38 <= int(refused.headers["retry-after"]) <= 42


def named(app: ASGIApp) -> ASGIApp:
    """Have each request come from the principal in its header `x-is`."""

    async def with_principal(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-is":
                scope[PRINCIPAL] = Principal(value.decode(), "", frozenset())
        await app(scope, receive, send)

    return with_principal


async def test_each_credential_has_its_own(
    shared_settings: TopicSettings, serve_gateway: Serve
) -> None:
    """Requests and open streams are counted for each, though all come from one address."""
    async with serve_gateway(
        shared_settings, wrap=named, limit_credential_rate=0.01, limit_credential_burst=2,
        stream_clients_per_credential=1,
    ) as client:  # fmt: skip

        async def status(of: str) -> int:
            answer = await client.post("/transactions", json=TRANSACTION, headers={"x-is": of})
            return answer.status_code

        assert [await status("a") for _ in range(3)] == [202, 202, 429]
        assert [await status("b") for _ in range(3)] == [202, 202, 429]
        headers = {"x-is": "c"}
        async with client.stream("GET", "/stream/all", headers=headers) as stream:
            assert stream.headers["ratelimit"] == '"credential";r=1;t=100'
            await anext(stream.aiter_lines())
            second = await client.get("/stream/all", headers=headers)
            assert (second.status_code, second.json()["code"]) == (429, "too-many-requests")
            assert "credential" in second.json()["detail"]


@pytest.mark.parametrize(
    ("trusted", "statuses"),
    [("192.0.2.0/24", [202, 429, 429, 429]), ("127.0.0.1,10.0.0.0/8", [202, 202, 429, 429])],
)
async def test_only_trusted_proxies_say_who_comes(
    shared_settings: TopicSettings, serve_gateway: Serve, trusted: str, statuses: list[int]
) -> None:
    """A made-up X-Forwarded-For changes nothing; from a proxy it counts, from its right end."""
    async with serve_gateway(
        shared_settings, api_trusted_proxies=trusted,
        limit_address_rate=0.01, limit_address_burst=1,
    ) as client:  # fmt: skip
        # The wait for it to be ready took its one token if it was asked as 127.0.0.1: health is
        # free. The last two are the second's: what it claims to have come by is not believed.
        forwarded = ("203.0.113.1", "203.0.113.2", "203.0.113.9, 203.0.113.2, 10.1.1.1",
                     "2001:db8::1, 203.0.113.2")  # fmt: skip
        found = [
            (
                await client.post(
                    "/transactions", json=TRANSACTION, headers={"X-Forwarded-For": each}
                )
            ).status_code
            for each in forwarded
        ]
    assert found == statuses


# --- audit


async def test_streams_are_recorded(
    shared_settings: TopicSettings, serve_gateway: Serve, tmp_path: Path
) -> None:
    """Who opened which, with what sorts of filter, for how long; not whose account it was for."""
    path = tmp_path / "audit.log"
    query = {"account": "c4n4ry-account", "currency": "EUR"}
    headers = {"x-is": "key-7", "X-Request-ID": "r-77"}
    async with (
        serve_gateway(shared_settings, wrap=named, audit_log=str(path)) as client,
        client.stream("GET", "/stream/fraud", params=query, headers=headers) as stream,
    ):
        await anext(stream.aiter_lines())
    opened, closed = [json.loads(line) for line in path.read_text().splitlines()]
    who = {
        "part": "api", "principal": "key-7", "address": "127.0.0.1", "request_id": "r-77",
        "stream": "fraud", "filters": ["account", "currency"],
    }  # fmt: skip
    assert {name: opened[name] for name in who} == who
    assert {name: closed[name] for name in who} == who
    assert (opened["event"], closed["event"]) == ("stream-opened", "stream-closed")
    assert closed["cause"] in ("client", "drain")
    assert closed["seconds"] >= 0
    assert "c4n4ry" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
