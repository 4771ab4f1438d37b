"""Signing in by a browser: the session's cookie, and what no other site can do with it."""

import ssl
import time
from contextlib import closing
from pathlib import Path

import httpx

from api import listener
from tests.certificates import Authority
from tests.credentials import bearer, issuer, key_id
from tests.guarded import BODY, Guarded, StartGateway, form, guard, status
from tests.processes import Programs, environment, until
from tests.trust import TRUST
from wire.settings import TopicSettings


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
        httpx.Client(base_url=url, timeout=30, verify=TRUST) as client,
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
