"""Who may do what: every route with every sort of credential, and what ends when one ends."""

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api import listener
from api.access.keys import supervisors_key
from api.access.scopes import SCOPES
from api.access.session import PLAIN_NAME, SECURE_NAME
from api.app import create
from api.settings import ApiSettings
from tests.certificates import Authority
from tests.credentials import KeyFile, bearer, issuer, jwt_settings, key_id
from tests.processes import Programs, environment, programs, until
from tests.streaming import reading
from wire.settings import TopicSettings

StartGateway = Callable[..., AbstractContextManager[str]]
POLL_S: Final = 0.05
BODY = {"source": "anna", "target": "ben", "amount": "1"}
SESSION_KEY = "c4n4ry-of-32-characters-or-more-!"

WRITE, LEGIT, FRAUD = {"transactions:write"}, {"stream:legit"}, {"stream:fraud"}
METRICS = {"metrics:read"}
LOOK_UP = "/transactions/{transaction_id:anything}"

# What each route asks for: nothing at all (None), or one of some sets of scopes; and its answer to
# those who may.
ROUTES: Final[dict[tuple[str, str], tuple[list[set[str]] | None, int]]] = {
    ("POST", "/transactions"): ([WRITE], 202),
    ("GET", LOOK_UP): ([WRITE, LEGIT | FRAUD], 404),
    **{
        (method, f"/stream/{name}"): ([scopes], status)
        for name, scopes in (("legit", LEGIT), ("fraud", FRAUD), ("all", LEGIT | FRAUD))
        for method, status in (("GET", 200), ("HEAD", 200), ("OPTIONS", 204))
    },
    ("GET", "/metrics"): ([METRICS], 200),
    ("GET", "/metrics/worker"): ([METRICS], 200),
    ("GET", "/status.json"): ([set()], 200),
    ("GET", "/"): ([set()], 200),
    ("HEAD", "/"): ([set()], 200),
    ("GET", "/healthz"): (None, 200),
    ("GET", "/readyz"): (None, 200),
    ("GET", "/openapi.json"): (None, 200),
    ("HEAD", "/openapi.json"): (None, 200),
    ("GET", "/asyncapi.json"): (None, 200),
    ("GET", "/docs"): (None, 200),
    ("GET", "/docs/start.js"): (None, 200),
    ("GET", "/docs/{name}"): (None, 404),
    ("GET", "/schemas/transaction.json"): (None, 200),
    ("GET", "/schemas/verdict.json"): (None, 200),
    ("GET", "/static/{digest}/{name}"): (None, 404),
    ("HEAD", "/static/{digest}/{name}"): (None, 404),
    ("GET", "/sign-in"): (None, 200),
    ("HEAD", "/sign-in"): (None, 200),
    ("POST", "/sign-in"): (None, 403),  # not from a page of ours
    ("POST", "/sign-out"): (None, 403),
}


@dataclass
class Guarded:
    """A gateway process that asks who comes."""

    url: str
    keys: KeyFile

    def client(self, **options: Any) -> httpx.Client:
        """Give a client of it."""
        return httpx.Client(base_url=self.url, timeout=30, **options)


def guard(folder: Path, **given: Any) -> tuple[KeyFile, dict[str, Any]]:
    """Give a file of keys, and settings that take keys and tokens."""
    keys = KeyFile(folder)
    return keys, {
        "api_keys_file": keys.path,
        "api_keys_poll_seconds": POLL_S,
        "api_session_key": SESSION_KEY,
        "limit_failure_burst": 1_000_000,  # these tests fail on purpose, from one address
        "api_allowed_hosts": "*",
        **jwt_settings(folder),
        **given,
    }


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory,
    shared_settings: TopicSettings,
    start_gateway: StartGateway,
) -> Iterator[Guarded]:
    """One for all tests here."""
    keys, given = guard(tmp_path_factory.mktemp("access"))
    with start_gateway(shared_settings, **given) as url:
        yield Guarded(url, keys)


def routes(router: Any) -> Iterator[tuple[str, str]]:
    """Give the method and path of each route, those of included routers too."""
    for route in router.routes:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router)
        else:
            yield from ((method, route.path) for method in route.methods)


def status(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> int:
    """Send a request; give the answer's status, and leave a stream after it."""
    content = {"json": BODY} if path == "/transactions" else {}
    with client.stream(method, path, headers=headers, **content) as answer:
        told = answer.headers.get("www-authenticate", "")
        assert (answer.status_code == 401) == (told == CHALLENGE or "invalid_token" in told)
        return answer.status_code


CHALLENGE: Final = 'Bearer realm="fraudstream"'


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


def form(client: httpx.Client, path: str, *, site: str = "same-origin", **fields: str) -> Any:
    """Send a form as a browser does from a page."""
    return client.post(path, data=fields, headers={"Sec-Fetch-Site": site})


def test_a_browser_signs_in_and_out(guarded: Guarded) -> None:
    """It is led to the form and back, gets a cookie that no script reads, and loses it again."""
    key = guarded.keys.add("stream:fraud", name="Anna <b>")
    page = {"Accept": "text/html"}
    with guarded.client() as client:
        until(lambda: client.get("/status.json", headers=bearer(key)).is_success)
        led = client.get("/stream/fraud?account=a%26b", headers=page)
        assert led.status_code == 303
        assert led.headers["location"] == "/sign-in?next=%2Fstream%2Ffraud%3Faccount%3Da%2526b"
        shown = client.get(led.headers["location"])
        assert 'name="next" value="/stream/fraud?account=a%26b"' in shown.text
        refused = form(client, "/sign-in", credential="<script>", next="/stream/fraud")
        assert refused.status_code == 401
        assert "There is no such API key." in refused.text or "token" in refused.text
        assert "<script>" not in refused.text.split("<body>")[1]
        done = form(client, "/sign-in", credential=key, next="/stream/fraud")
        assert (done.status_code, done.headers["location"]) == (303, "/stream/fraud")
        cookie = done.headers["set-cookie"]
        attributes = set(cookie.lower().split("; ")[1:])
        assert attributes == {"httponly", "max-age=43200", "path=/", "samesite=strict", "secure"}
        assert key not in cookie
        assert key.split("_", 2)[2] not in cookie
        session = {"Cookie": cookie.split(";")[0]}
        assert status(client, "GET", "/stream/fraud", session) == 200
        assert client.get("/stream/fraud", headers=session | page).status_code == 200
        assert client.get("/stream/legit", headers=session).status_code == 403
        told = client.get("/status.json", headers=session).json()["principal"]
        assert told == {"id": f"key:{key_id(key)}", "name": "Anna <b>", "scopes": ["stream:fraud"]}
        out = form(client, "/sign-out")
        assert out.headers["location"] == "/sign-in"
        assert {part.split("=")[0] for part in out.headers.get_list("set-cookie")} == {
            "fraudstream",
            "__Host-fraudstream",
        }
        assert all("Max-Age=0" in part for part in out.headers.get_list("set-cookie"))
        guarded.keys.revoke(key)
        until(lambda: client.get("/status.json", headers=session).status_code == 401)
        assert client.get("/", headers=session | page).status_code == 303


def test_who_tries_credentials_is_held_up(
    tmp_path: Path, shared_settings: TopicSettings, start_gateway: StartGateway
) -> None:
    """After a few that do not count the answer is 429, by whatever way; a good one is let in."""
    keys, given = guard(tmp_path, limit_failure_burst=2, limit_failure_rate=0.01)
    key = keys.add()
    with (
        start_gateway(shared_settings, **given) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        wrong = [client.get("/metrics", headers=bearer(f"{key}{n}")) for n in range(3)]
        assert [answer.status_code for answer in wrong] == [401, 401, 429]
        assert int(wrong[2].headers["retry-after"]) > 50
        assert form(client, "/sign-in", credential=key + "x").status_code == 429
        assert client.get("/metrics").status_code == 401  # it tries none
        assert client.get("/metrics", headers=bearer(key)).status_code == 200
        assert form(client, "/sign-in", credential=key).status_code == 303


def test_a_token_can_be_signed_in_with(guarded: Guarded) -> None:
    """The session has its scopes, and ends with it."""
    with guarded.client() as client:
        token = issuer().token(exp=int(time.time()) + 3, scope="stream:legit")
        done = form(client, "/sign-in", credential=token, next="//evil.example")
        assert done.headers["location"] == "/"
        session = {"Cookie": done.headers["set-cookie"].split(";")[0]}
        assert status(client, "GET", "/stream/legit", session) == 200
        assert client.get("/stream/fraud", headers=session).status_code == 403
        until(lambda: client.get("/stream/legit", headers=session).status_code == 401)


def test_another_site_can_do_nothing(guarded: Guarded) -> None:
    """A POST with the cookie must come from a page of ours; so must a sign-in."""
    key = guarded.keys.add()
    with guarded.client() as client:
        until(lambda: client.get("/status.json", headers=bearer(key)).is_success)
        done = form(client, "/sign-in", credential=key)
        session = {"Cookie": done.headers["set-cookie"].split(";")[0]}
        other = [
            {},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": guarded.url, "Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ]
        for headers in other:
            answer = client.post("/transactions", json=BODY, headers=session | headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
            for path in ("/sign-in", "/sign-out"):
                answer = client.post(path, data={"credential": key}, headers=headers)
                assert answer.json()["code"] == "cross-site"
                assert "set-cookie" not in answer.headers
        for headers in ({"Origin": guarded.url}, {"Sec-Fetch-Site": "same-origin"}):
            answer = client.post("/transactions", json=BODY, headers=session | headers)
            assert answer.status_code == 202
        # A credential in a header is none that a browser adds by itself.
        answer = client.post("/transactions", json=BODY, headers=bearer(key) | other[1])
        assert answer.status_code == 202


def test_no_session_over_plain_http_from_elsewhere(guarded: Guarded) -> None:
    """A browser would not keep the cookie: the page says so."""
    key = guarded.keys.add()
    with guarded.client() as client:
        until(lambda: client.get("/status.json", headers=bearer(key)).is_success)
        headers = {"Host": "gateway.example", "Sec-Fetch-Site": "same-origin"}
        answer = client.post("/sign-in", data={"credential": key}, headers=headers)
        assert answer.status_code == 400
        assert "HTTPS" in answer.text
        assert "set-cookie" not in answer.headers


def test_over_https_the_cookie_is_of_this_host_alone(
    run: Programs, shared_settings: TopicSettings, tmp_path: Path
) -> None:
    """By a prefix that browsers hold others to; the same session by the other name is none."""
    authority = Authority(tmp_path)
    served = authority.certify("localhost")
    keys, given = guard(tmp_path)
    key = keys.add("metrics:read")
    given |= {"api_tls_certificate": served.certificate, "api_tls_key": served.key}
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        env = environment(shared_settings, **given)
        run.start("-m", "api", "--api-fd", str(fd), env=env, fds=(fd,))
        trust = ssl.create_default_context(cafile=authority.file)
        base = f"https://localhost:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, verify=trust, timeout=30) as client:
            done = client.post("/sign-in", data={"credential": key}, headers={"Origin": base})
            name, value = done.headers["set-cookie"].split(";")[0].split("=", 1)
            assert name == "__Host-fraudstream"
            assert {"Path=/", "Secure"} <= set(done.headers["set-cookie"].split("; "))
            assert "domain" not in done.headers["set-cookie"].lower()
            client.cookies.clear()
            for sent, expected in ((name, 200), ("fraudstream", 401)):
                headers = {"Cookie": f"{sent}={value}"}
                assert client.get("/status.json", headers=headers).status_code == expected


def test_who_came_and_who_did_not_is_recorded(
    run: Programs, shared_settings: TopicSettings, tmp_path: Path
) -> None:
    """Signed in, failed, denied, signed out, keys changed: in order, with no credential."""
    keys, given = guard(tmp_path)
    key = keys.add("metrics:read")
    log = tmp_path / "audit"
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        env = environment(shared_settings, **given, audit_log=log)
        gateway = run.start("-m", "api", "--api-fd", str(fd), env=env, fds=(fd,))
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30) as client:
            form(client, "/sign-in", credential="fs_wrong_key")
            done = form(client, "/sign-in", credential=key)
            session = {"Cookie": done.headers["set-cookie"].split(";")[0]}
            assert client.get("/nothing/secret", headers=bearer("x")).status_code == 401
            assert client.get("/stream/fraud", headers=bearer(key)).status_code == 403
            site = {"Sec-Fetch-Site": "same-origin"}
            client.post("/sign-out", headers=session | site)
            before = keys.path.read_text()
            keys.path.write_text("{}")
            until(lambda: "keys-refused" in log.read_text(), lambda: gateway.output)
            keys.path.write_text(before)
            until(lambda: "keys-reloaded" in log.read_text(), lambda: gateway.output)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    who = f"key:{key_id(key)}"
    told = [tuple(map(line.get, ("event", "principal", "code", "at"))) for line in lines]
    assert told == [
        ("sign-in-failed", None, None, None),
        ("signed-in", who, None, None),
        ("denied", None, "unauthenticated", "elsewhere"),
        ("denied", who, "forbidden", "/stream/fraud"),
        ("signed-out", who, None, None),
        ("keys-refused", None, None, None),
        ("keys-reloaded", None, None, None),
    ]
    assert {line["address"] for line in lines[:5]} == {"127.0.0.1"}
    assert "secret" not in log.read_text()


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
    async with httpx.AsyncClient(base_url=guarded.url, timeout=30) as client:
        async with asyncio.timeout(20):
            while not (await client.get("/status.json", headers=bearer(five))).is_success:  # noqa: ASYNC110
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


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Programs]:
    """Start programs, which are ended with the test."""
    with programs(tmp_path) as made:
        yield made


REFUSED = "can be reached from other machines, and nobody is asked who they are"


EVERYWHERE: Final = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("command", "host"), [("api", EVERYWHERE), ("api", "::"), ("up", EVERYWHERE)]
)
def test_nobody_is_let_in_from_elsewhere_unasked(command: str, host: str, tmp_path: Path) -> None:
    """The start is refused before anything else starts: one line that says what to do, code 2."""
    argv = [sys.executable, "-m", "compose", command, "--host", host, "--port", "0"]
    if command == "up":
        argv += ["--data-dir", str(tmp_path / "data")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert REFUSED in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_inherited_socket_is_looked_at_too(
    run: Programs, shared_settings: TopicSettings, tmp_path: Path
) -> None:
    """Whoever made it; with keys, or where it was allowed, it is served."""
    keys = KeyFile(tmp_path)
    with closing(listener.bind(EVERYWHERE, 0)) as sock:
        fd = sock.fileno()
        argv = ("-m", "api", "--api-fd", str(fd))
        env = environment(shared_settings)
        assert run.start(*argv, env=env, fds=(fd,)).wait() == 2
        assert REFUSED in run.started[0].output
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        for name, value, expected in (
            ("API_ALLOW_ANONYMOUS", "true", 200),
            ("API_KEYS_FILE", str(keys.path), 401),
        ):
            started = run.start(*argv, env=env | {name: value}, fds=(fd,))
            with httpx.Client(base_url=url, timeout=30) as client:
                assert client.get("/status.json").status_code == expected
            started.popen.terminate()
            started.wait()


def test_sighup_reads_keys_and_signers_at_once(
    run: Programs, shared_settings: TopicSettings, tmp_path: Path
) -> None:
    """Without waiting for the next look."""
    keys, given = guard(tmp_path, api_keys_poll_seconds=3600, api_jwt_remembered=0)
    given["api_jwt_jwks_file"].write_text(issuer().jwks(of=["RS256"]))
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        env = environment(shared_settings, **given)
        gateway = run.start("-m", "api", "--api-fd", str(fd), env=env, fds=(fd,))
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30) as client:
            assert client.get("/healthz").is_success  # it has read its files
            by = [
                bearer(text)
                for text in (issuer().token("RS256"), keys.add(), issuer().token("EdDSA"))
            ]

            def statuses() -> list[int]:
                return [client.get("/status.json", headers=each).status_code for each in by]

            assert statuses() == [200, 401, 401]
            given["api_jwt_jwks_file"].write_text(issuer().jwks())
            gateway.popen.send_signal(signal.SIGHUP)
            until(lambda: statuses() == [200, 200, 200], lambda: gateway.output)


BOTH: Final = "fraudstream_api_workers 2.0"


def test_processes_ask_each_other_with_the_askers_credential(
    run: Programs, shared_settings: TopicSettings, tmp_path: Path
) -> None:
    """One /metrics for all of them, by header and by cookie; and a session holds at each."""
    keys, given = guard(tmp_path, api_supervisor_key=supervisors_key())
    key = keys.add("metrics:read")
    own = [listener.bind("127.0.0.1", 0) for _ in range(2)]
    places = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in own)
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        env = environment(shared_settings, **given)
        for number, alone in enumerate(own, 1):
            fds = (sock.fileno(), alone.fileno())
            argv = ("--api-fd", str(fds[0]), "--api-worker-fd", str(fds[1]))
            argv += ("--api-worker", str(number), "--api-workers-at", places)
            run.start("-m", "api", *argv, env=env, fds=fds)
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30) as client:
            done = form(client, "/sign-in", credential=key)
            session = {"Cookie": done.headers["set-cookie"].split(";")[0]}
            for headers in (bearer(key), session):
                until(lambda by=headers: BOTH in client.get("/metrics", headers=by).text)
            for each in own:
                at = f"http://127.0.0.1:{each.getsockname()[1]}/metrics/worker"
                assert httpx.get(at, headers=session).status_code == 200
                assert httpx.get(at).status_code == 401
    for each in own:
        each.close()


@pytest.mark.parametrize("by", ["variable", "file", "nothing"])
def test_the_load_generator_says_who_it_is(guarded: Guarded, tmp_path: Path, by: str) -> None:
    """By LOADGEN_TOKEN or a file, for its transactions and for the stream that it checks."""
    key = guarded.keys.add("transactions:write", "stream:legit", "stream:fraud")
    with guarded.client(headers=bearer(key)) as client:
        until(lambda: client.get("/status.json").is_success)
    file = tmp_path / "token"
    file.write_text(f"{key}\n")
    argv = [sys.executable, "-m", "loadgen", "--url", guarded.url, "--tps", "50", "--duration", "1"]
    argv += ["--threshold", "errors==0", "--verify", "--settle", "0", "--json"]
    if by == "file":
        argv += ["--token-file", str(file)]
    env = {**os.environ, **({"LOADGEN_TOKEN": key} if by == "variable" else {})}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert key not in done.stdout + done.stderr
    if by == "nothing":
        assert (done.returncode, "/stream/all answers 401" in done.stderr) == (2, True)
    else:
        found = json.loads(done.stdout)  # no detector runs: verdicts there are none
        assert (found["accepted"], found["thresholds"][0]["held"]) == (50, True)


async def test_anonymous_gateways_ask_nobody(shared_gateway: httpx.AsyncClient) -> None:
    """Without keys and tokens nothing is asked, and there is nothing to sign in to."""
    assert (await shared_gateway.get("/metrics")).status_code == 200
    assert (await shared_gateway.get("/sign-in")).status_code == 404
    assert (await shared_gateway.get("/status.json")).json()["principal"] is None
    document = (await shared_gateway.get("/openapi.json")).json()
    assert "securitySchemes" not in document["components"]
