"""The audit log of a running gateway: who came, who did not, who opened which stream."""

import json
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from api import listener
from tests.credentials import bearer, key_id
from tests.guarded import form, guard, named
from tests.processes import Programs, environment, until
from tests.trust import TRUST
from wire.settings import TopicSettings


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
        with httpx.Client(base_url=base, timeout=30, verify=TRUST) as client:
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


Serve = Callable[..., Any]


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
