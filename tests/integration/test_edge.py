"""The edge of a running gateway: hosts, origins, connections, headers, ids."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.protocol import LINGER_BYTES
from tests.guarded import BODY
from tests.streaming import GatewayProcess, gateways
from tests.trust import TRUST
from wire.settings import TopicSettings

APP = "https://app.example"
OPEN = 'fraudstream_api_connections{worker="1"}'
Serve = Callable[..., Any]
PATHS = ("/", "/stream/fraud?raw=1", "/transactions/x", "/metrics", "/docs", "/none", "/healthz",
         "/problems/not-json")  # fmt: skip


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


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/transactions", *PATHS])
def test_another_name_for_loopback_is_refused(
    gateway: GatewayProcess, method: str, path: str
) -> None:
    """A page that had its name point here (DNS rebinding) gets nothing, wherever it asks."""
    answer = httpx.request(
        method,
        gateway.url + path,
        headers={"Host": "rebound.example"},
        timeout=30,
        verify=TRUST,
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
        posted = await client.post(path, json=BODY, headers={"Origin": APP})
        refused = await client.post(path, json={}, headers={"Origin": APP})
        async with client.stream("GET", "/stream/all", headers={"Origin": APP}) as stream:
            pass
        other = await client.post(path, json=BODY, headers={"Origin": "https://evil.example"})
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
    answer = await shared_gateway.post("/transactions", json=BODY, headers={"Origin": APP})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_an_id_and_is_no_other_type(gateway: GatewayProcess, path: str) -> None:
    """Ours, another each time; and browsers do not guess what it is."""
    seen = set()
    for _ in range(2):
        with httpx.stream("GET", gateway.url + path, timeout=30, verify=TRUST) as answer:
            seen.add(answer.headers["x-request-id"])
            assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert len(seen) == 2


@pytest.mark.parametrize(
    "path", [*PATHS, "/readyz", "/openapi.json", "/asyncapi.json", "/schemas/verdict.json"]
)
def test_head_is_answered_as_get_is(gateway: GatewayProcess, path: str) -> None:
    """Wherever there is something to get, as those ask who look whether all is well."""
    answers = []
    for method in ("GET", "HEAD"):
        url = gateway.url + path
        with httpx.stream(method, url, timeout=30, verify=TRUST) as answer:
            named = answer.headers
            answers.append((answer.status_code, named.get("content-type"), named.get("vary")))
            if method == "HEAD":
                assert answer.read() == b""
    assert answers == [answers[0]] * 2


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-123/4=:", True), ("a" * 129, False), ('"x"', False), ("a b", False)]
)
@pytest.mark.parametrize("body", [BODY, {}])
def test_a_clients_id_comes_back(
    gateway: GatewayProcess, sent: str, body: dict[str, str], *, kept: bool
) -> None:
    """On the answer and in the problem, unless it is long or odd."""
    answer = httpx.post(
        gateway.url + "/transactions",
        json=body,
        headers={"X-Request-ID": sent},
        timeout=30,
        verify=TRUST,
    )
    assert (answer.headers["x-request-id"] == sent) is kept
    if answer.status_code == 422:
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/asyncapi.json",
        "/schemas/verdict.json",
        "/docs",
        "/docs/swagger-ui.css",
        "/problems",
        "/problems/not-json",
        "/transactions/nobodys",
    ],
)
def test_head_is_answered_as_get(gateway: GatewayProcess, path: str) -> None:
    """What is got is there to be asked about (RFC 9110, 9.3.2), as probes and `curl -I` do."""
    with httpx.Client(base_url=gateway.url, timeout=30, verify=TRUST) as client:
        got, asked = client.get(path), client.head(path)
        for name in ("content-type", "content-length", "etag", "cache-control"):
            assert asked.headers.get(name) == got.headers.get(name)
        assert (asked.status_code, asked.content) == (got.status_code, b"")
        assert client.get(path).content  # the connection is as good as before


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("/docs/", "/docs"),
        ("/docs//", "/docs"),
        ("/docs%2F", "/docs"),
        ("/healthz/", "/healthz"),
        ("/schemas/verdict.json/?a=%2F&b", "/schemas/verdict.json?a=%2F&b"),
        ("/stream/fraud///?raw=no", "/stream/fraud?raw=no"),
    ],
)
def test_a_slash_too_many_leads_on_by_no_scheme_or_host(
    gateway: GatewayProcess, asked: str, answered: str
) -> None:
    """Where a proxy ends TLS, ours are not those that the client came by."""
    with httpx.Client(base_url=gateway.url, timeout=30, verify=TRUST) as client:
        answer = client.get(asked)
    assert (answer.status_code, answer.headers["location"]) == (307, answered)


@pytest.mark.parametrize("path", ["/none/", "//", "//docs/", "/static/x/", "/worker"])
def test_a_slash_where_nothing_is_leads_nowhere(gateway: GatewayProcess, path: str) -> None:
    """Least of all to another host."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert problem_of(said(gateway, request.encode()))["code"] == "not-found"


def test_pipelined_requests_have_their_own_ids(gateway: GatewayProcess) -> None:
    """Each answer has that of its request."""
    request = b"GET /none HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: r-%d\r\n%b\r\n"
    last = b"Connection: close\r\n"
    answer = said(gateway, b"".join(request % (n, last * (n == 2)) for n in range(3)))
    assert [answer.count(b'"request_id":"r-%d"' % n) for n in range(3)] == [1, 1, 1]
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


def test_a_header_that_trickles_or_never_comes_is_given_up(shared_settings: TopicSettings) -> None:
    """408 for what was begun, the end for what was not; and others are served after it."""
    with gateways(shared_settings, api_header_timeout=0.5) as (process,):
        asyncio.run(process.ready())
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
        assert httpx.get(process.url + "/healthz", verify=TRUST).status_code == 200


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


@pytest.mark.parametrize("more", [30_000, 10_000_000])
def test_who_is_refused_in_mid_header_can_read_why(gateway: GatewayProcess, more: int) -> None:
    """What comes after the answer is dropped for a moment, up to a bound; no reset meets it."""
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\na: " + b"b" * 70_000)
        assert sock.recv(1, socket.MSG_PEEK)  # it has been refused
        if more > LINGER_BYTES:
            with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
                sock.sendall(b"b" * more)
            return
        for _ in range(10):
            sock.sendall(b"b" * (more // 10))
        answer = b""
        while chunk := sock.recv(65_536):
            answer += chunk
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
                client = stack.enter_context(
                    httpx.Client(base_url=process.url, timeout=30, verify=TRUST)
                )
                assert client.get("/healthz").status_code == 200
            answer = said(process)
            assert answer.startswith(b"HTTP/1.1 429 ")
            assert problem_of(answer)["limit"] == "api_connections_per_address"
            assert b"retry-after: 1\r\n" in answer.lower()
        assert httpx.get(process.url + "/healthz", verify=TRUST).status_code == 200
    with gateways(shared_settings, api_connections=2) as (process,):
        asyncio.run(process.ready())
        with ExitStack() as stack:
            for _ in range(2):
                client = stack.enter_context(
                    httpx.Client(base_url=process.url, timeout=30, verify=TRUST)
                )
                assert client.get("/healthz").status_code == 200
            answer = said(process)
        assert (answer[9:12], problem_of(answer)["code"]) == (b"503", "overloaded")


async def test_what_is_refused_is_counted(
    serve_application: Callable[..., Any], shared_settings: TopicSettings
) -> None:
    """Each connection by the bound that it was over, each request for another host; once each."""
    bounds = {"api_connections_per_address": 2, "api_header_timeout": 0.2, "api_header_bytes": 4096}
    async with serve_application(shared_settings, ready=False, **bounds) as (client, _):
        port = client.base_url.port

        async def sent(data: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            answer = await reader.read()
            writer.close()
            return answer[9:12]

        posted = b"POST /transactions HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n"
        found = [await sent(posted + b"Content-Length: 2\r\n\r\n{}")]
        for refused in (b"GET / HTTP/1.1\r\nHost: a", b"GET /" + b"a" * 5000):
            found.append(await sent(refused))
            while OPEN + " 1.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)  # it is told that the client has gone
        _, second = await asyncio.open_connection("127.0.0.1", port)
        found.append(await sent(b""))
        assert found == [b"421", b"408", b"431", b"429"]
        counted = (await client.get("/metrics")).text.splitlines()
        second.close()
    names = ("fraudstream_api_connections", "fraudstream_api_unknown_hosts")
    assert [line for line in counted if line.startswith(names)] == [
        f"{OPEN} 2.0",
        'fraudstream_api_connections_refused_total{limit="api_connections",worker="1"} 0.0',
        'fraudstream_api_connections_refused_total{limit="api_connections_per_address",worker="1"}'
        " 1.0",
        'fraudstream_api_connections_refused_total{limit="api_header_timeout",worker="1"} 1.0',
        'fraudstream_api_connections_refused_total{limit="api_header_bytes",worker="1"} 1.0',
        'fraudstream_api_unknown_hosts_total{worker="1"} 1.0',
    ]
