"""Who may do what: every route with every sort of credential, and what ends when one ends."""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.access.scopes import SCOPES
from api.access.session import PLAIN_NAME, SECURE_NAME
from api.app import create
from api.settings import ApiSettings
from tests.credentials import KeyFile, bearer, issuer, key_id
from tests.guarded import BODY, CHALLENGE, POLL_S, Guarded, status
from tests.processes import until
from tests.streaming import reading
from tests.trust import TRUST

WRITE, LEGIT, FRAUD = {"transactions:write"}, {"stream:legit"}, {"stream:fraud"}
METRICS = {"metrics:read"}
LOOK_UP = "/transactions/{transaction_id:anything}"

# What each route asks for: nothing at all (None), or one of some sets of scopes; and its answer to
# those who may.
_ROUTES: Final[dict[tuple[str, str], tuple[list[set[str]] | None, int]]] = {
    ("POST", "/transactions"): ([WRITE], 202),
    ("GET", LOOK_UP): ([WRITE, LEGIT | FRAUD], 404),
    ("GET", f"/worker{LOOK_UP}"): ([WRITE, LEGIT | FRAUD], 404),
    **{
        (method, f"/stream/{name}"): ([scopes], status)
        for name, scopes in (("legit", LEGIT), ("fraud", FRAUD), ("all", LEGIT | FRAUD))
        for method, status in (("GET", 200), ("OPTIONS", 204))
    },
    ("GET", "/metrics"): ([METRICS], 200),
    ("GET", "/metrics/worker"): ([METRICS], 200),
    ("GET", "/status.json"): ([set()], 200),
    ("GET", "/"): ([set()], 200),
    ("GET", "/healthz"): (None, 200),
    ("GET", "/readyz"): (None, 200),
    ("GET", "/openapi.json"): (None, 200),
    ("GET", "/asyncapi.json"): (None, 200),
    ("GET", "/docs"): (None, 200),
    ("GET", "/docs/start.js"): (None, 200),
    ("GET", "/docs/{name}"): (None, 404),
    ("GET", "/problems"): (None, 200),
    ("GET", "/problems/{code}"): (None, 404),
    ("GET", "/schemas/transaction.json"): (None, 200),
    ("GET", "/schemas/verdict.json"): (None, 200),
    ("GET", "/static/{digest}/{name}"): (None, 404),
    ("GET", "/sign-in"): (None, 200),
    ("POST", "/sign-in"): (None, 403),  # not from a page of ours
    ("POST", "/sign-out"): (None, 403),
}
ROUTES: Final = _ROUTES | {
    ("HEAD", path): asked for (method, path), asked in _ROUTES.items() if method == "GET"
}


def routes(router: Any) -> Iterator[tuple[str, str]]:
    """Give the method and path of each route, those of included routers too."""
    for route in router.routes:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router)
        else:
            yield from ((method, route.path) for method in route.methods)


def test_every_route_is_in_the_table(tmp_path: Path) -> None:
    """A route that is new here has to say what it asks for."""
    app = create(ApiSettings(api_keys_file=KeyFile(tmp_path).path))
    assert set(routes(app)) == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=map(" ".join, ROUTES))
def test_every_route_with_every_sort_of_credential(
    guarded: Guarded, method: str, path: str
) -> None:
    """None, wrong, expired, revoked, of another scope, and right: the exact status of each."""
    keys = guarded.keys
    needs, right = ROUTES[method, path]
    expired = keys.add(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked, gone = keys.add(), keys.add(name="gone")
    keys.revoke(revoked)
    some = keys.add()
    good = [keys.add(*each, name="right") for each in needs or [set()] if each] or [some]
    poor = [
        keys.add(*(SCOPES - {scope}))
        for scope in sorted(set().union(*needs or []))
        if not any(each <= SCOPES - {scope} for each in needs or [])
    ]
    last = keys.add()
    with guarded.client() as client:
        until(lambda: client.get("/status.json", headers=bearer(last)).is_success)
        url = re.sub(r"{.*?}", "x", path)
        bad = {
            "none": {},
            "wrong": bearer("fs_nobody_secret"),
            "other secret": bearer(f"fs_{key_id(good[0])}_{gone.split('_', 2)[2]}"),
            "no key": bearer("x"),
            "empty": {"Authorization": "Bearer"},
            "two": {"Authorization": f"Bearer {good[0]}, Bearer {good[0]}"},
            "basic": {"Authorization": f"Basic {good[0]}"},
            "bare": {"Authorization": good[0]},
            "expired": bearer(expired),
            "revoked": bearer(revoked),
            "expired token": bearer(issuer().token(exp=int(time.time()) - 1)),
            "other audience": bearer(issuer().token(aud="another")),
            "other header": {"X-API-Key": good[0], "Cookie": f"fraudstream={good[0]}"},
        }
        closed = right if needs is None else 401
        assert {
            name: status(client, method, url, each) for name, each in bad.items()
        } == dict.fromkeys(bad, closed)
        in_url = f"{url}?access_token={good[0]}&key={good[0]}&Authorization=Bearer%20{good[0]}"
        assert status(client, method, in_url, {}) == closed
        for key in poor:
            assert status(client, method, url, bearer(key)) == 403
        for scopes, key in zip(needs or [set()], good, strict=False):
            assert status(client, method, url, bearer(key)) == right
            token = issuer().token(scope=" ".join(scopes))
            assert status(client, method, url, bearer(token)) == right
        assert status(client, method, f"{url}%0A", {}) in (401, 404, closed)


def test_a_line_feed_opens_no_stream(guarded: Guarded) -> None:
    """The router's patterns would take `/stream/fraud%0A` for the stream; nobody gets it."""
    key = guarded.keys.add("transactions:write")
    with guarded.client(headers=bearer(key)) as client:
        until(lambda: client.get("/status.json").is_success)
        for path in ("/stream/fraud", "/stream/all", "/metrics", "/metrics/worker"):
            assert client.get(path).status_code == 403
            for odd in ("%0A", "/", "%00", "%2F", ";", "%20"):
                assert client.get(path + odd).status_code == 404
            for odd in ("//", "/.", "/%2e", "/x/.."):
                assert client.get(odd + path).status_code in (403, 404)


def test_a_key_is_asked_for_anew_with_each_request(guarded: Guarded) -> None:
    """On one connection, with the very same bytes, until the key is revoked; and not after."""
    key = guarded.keys.add("transactions:write")
    body = json.dumps(BODY)
    lines = [
        "POST /transactions HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
        "",
        body,
    ]
    with guarded.client() as client:
        until(lambda: client.post("/transactions", json=BODY, headers=bearer(key)).is_success)
    address = httpx.URL(guarded.url)
    with socket.create_connection((address.host, address.port or 0)) as connection:

        def post() -> int:
            connection.sendall("\r\n".join(lines).encode())
            answer = HTTPResponse(connection)
            answer.begin()
            answer.read()
            return answer.status

        assert [post() for _ in range(3)] == [202] * 3
        guarded.keys.revoke(key)
        until(lambda: post() == 401)
        assert [post() for _ in range(3)] == [401] * 3


def test_refusals_say_what_is_missing(guarded: Guarded) -> None:
    """As RFC 6750 has it, and as problems with stable codes."""
    key = guarded.keys.add("metrics:read")
    with guarded.client() as client:
        until(lambda: client.get("/status.json", headers=bearer(key)).is_success)
        none = client.post("/transactions", json=BODY)
        assert none.json()["code"] == "unauthenticated"
        assert none.headers["www-authenticate"] == CHALLENGE
        assert none.headers["cache-control"] == "no-store"
        wrong = client.post("/transactions", json=BODY, headers=bearer("x.y.z"))
        assert wrong.json()["code"] == "unauthenticated"
        assert wrong.headers["www-authenticate"] == f'{CHALLENGE}, error="invalid_token"'
        other = client.get("/stream/all", headers=bearer(key))
        assert other.json()["code"] == "forbidden"
        told = f'{CHALLENGE}, error="insufficient_scope", scope="stream:fraud stream:legit"'
        assert other.headers["www-authenticate"] == told
        numbers = client.get("/metrics", headers=bearer(key)).text
        for code in ("unauthenticated", "forbidden"):
            assert re.search(rf'fraudstream_api_refusals_total{{code="{code}",.*}} [1-9]', numbers)


def test_who_is_refused_can_read_why(guarded: Guarded) -> None:
    """The problem's type leads to a page, and to JSON, without a credential or with a wrong one."""
    key = guarded.keys.add("metrics:read")
    with guarded.client() as client:
        until(lambda: client.get("/status.json", headers=bearer(key)).is_success)
        for given, code in (({}, "unauthenticated"), (bearer(key), "forbidden")):
            problem = client.post("/transactions", json=BODY, headers=given).json()
            for credential in ({}, bearer("x.y.z"), bearer(key)):
                page = client.get(problem["type"], headers={"Accept": "text/html", **credential})
                assert (page.status_code, page.headers["content-type"][:9]) == (200, "text/html")
                assert f"<code>{code}</code>" in page.text
                headers = {"Accept": "application/json", **credential}
                told = client.get(problem["type"], headers=headers).json()
                assert told["advice"]
                assert (
                    told.items()
                    >= {
                        name: problem[name]
                        for name in ("type", "code", "status", "title", "retriable")
                    }.items()
                )


async def ended(stream: Any) -> None:
    """Read a stream to its end."""
    with contextlib.suppress(EOFError):
        while True:
            await stream.block()


async def refused(client: httpx.AsyncClient, headers: dict[str, str]) -> bool:
    """Tell whether a stream is refused, if not yet then later."""
    async with client.stream("GET", "/stream/fraud", headers=headers) as answer:
        return answer.status_code == 401


async def test_a_stream_ends_with_its_credential(guarded: Guarded) -> None:
    """Revoked, removed, with other scopes, expired: the stream ends, and no other is opened."""
    keys = guarded.keys
    soon = datetime.now(UTC) + timedelta(seconds=4)
    one, two, three, four, stays = keys.add(), keys.add(), keys.add(), keys.add(), keys.add()
    five = keys.add(expires_at=soon)
    token = issuer().token(exp=int(soon.timestamp()))
    async with httpx.AsyncClient(base_url=guarded.url, timeout=30, verify=TRUST) as client:
        async with asyncio.timeout(20):
            while not (await client.get("/status.json", headers=bearer(five))).is_success:
                await asyncio.sleep(POLL_S)
        headers = {"Sec-Fetch-Site": "same-origin"}
        form = await client.post("/sign-in", data={"credential": two}, headers=headers)
        session = {"Cookie": form.headers["set-cookie"].split(";")[0]}
        by = [bearer(one), session, bearer(three), bearer(four), bearer(five), bearer(token)]
        async with (
            reading(guarded.url, "/stream/fraud", headers=bearer(stays)) as other,
            reading(guarded.url, "/stream/fraud", headers=by[0]) as revoked,
            reading(guarded.url, "/stream/fraud", headers=by[1]) as signed_out,
            reading(guarded.url, "/stream/fraud", headers=by[2]) as less,
            reading(guarded.url, "/stream/fraud", headers=by[3]) as shortened,
            reading(guarded.url, "/stream/fraud", headers=by[4]) as expired,
            reading(guarded.url, "/stream/fraud", headers=by[5]) as of_token,
        ):
            keys.revoke(one)
            await ended(revoked)
            assert await refused(client, by[0])
            keys.revoke(two)
            await ended(signed_out)
            assert await refused(client, by[1])
            keys.change(three, scopes=("stream:fraud",))
            await ended(less)
            assert not await refused(client, by[2])
            keys.change(four, expires_at=soon)
            for stream, headers in ((shortened, by[3]), (expired, by[4]), (of_token, by[5])):
                await ended(stream)
                assert time.time() >= int(soon.timestamp())
                assert await refused(client, headers)
            assert not await refused(client, bearer(stays))
            numbers = (await client.get("/metrics", headers=bearer(stays))).text
            assert re.search(r'stream_ends_total{cause="credential",.*} [6-9]', numbers)
            other.response.close()


_TEXT = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=60)

_CREDENTIALS = _TEXT | st.builds(
    "{}{}{}".format,
    st.sampled_from(["Bearer ", "bearer", "Bearer\t", "Basic ", "Bearer fs_", "Bearer eyJ", ""]),
    _TEXT,
    st.sampled_from(["", ".", "..", "_", "=" * 50, "A" * 9000]),
)

_COOKIES = st.sampled_from([PLAIN_NAME, SECURE_NAME])

_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Authorization": _CREDENTIALS,
        "Cookie": _TEXT | st.builds("{}={}".format, _COOKIES, _TEXT),
        "Origin": _TEXT | st.sampled_from(["null", "http://[", "https://127.0.0.1"]),
        "Sec-Fetch-Site": _TEXT | st.sampled_from(["same-origin", "cross-site"]),
        "Accept": _TEXT | st.just("text/html"),
        "Host": st.sampled_from(["", "x", "[::1", "a b", "localhost:99999999", "\xff"]),
    },
)  # fmt: skip

_PATHS = st.sampled_from(["/transactions", "/", "/stream/all", "/metrics", "/sign-in", "/sign-out"])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=_HEADERS, path=_PATHS, query=_TEXT, body=st.binary(max_size=50))
def test_no_header_makes_it_fail(
    fuzzed: httpx.Client, headers: dict[str, str], path: str, query: str, body: bytes
) -> None:
    """Whatever comes as credential, cookie or origin is refused in order, never by a 5xx."""
    raw = {name: value.strip().encode("latin-1") for name, value in headers.items()}
    for method in ("GET", "POST"):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = fuzzed.request(
            method, path, headers=raw | form, params={"next": query}, content=body
        )
        assert answer.status_code in (200, 303, 400, 401, 403, 405)


@pytest.fixture(scope="module")
def fuzzed(guarded: Guarded) -> Iterator[httpx.Client]:
    """A client that keeps nothing between two requests."""
    with guarded.client() as client:
        client.cookies.jar.set_policy(_NO_COOKIES)
        yield client


class _NoCookies:
    netscape, rfc2965, hide_cookie2 = True, False, False

    def set_ok(self, *_: object) -> bool:
        return False

    return_ok = domain_return_ok = path_return_ok = set_ok


_NO_COOKIES: Any = _NoCookies()


async def test_anonymous_gateways_ask_nobody(shared_gateway: httpx.AsyncClient) -> None:
    """Without keys and tokens nothing is asked, and there is nothing to sign in to."""
    assert (await shared_gateway.get("/metrics")).status_code == 200
    assert (await shared_gateway.get("/sign-in")).status_code == 404
    assert (await shared_gateway.get("/status.json")).json()["principal"] is None
    document = (await shared_gateway.get("/openapi.json")).json()
    assert "securitySchemes" not in document["components"]
