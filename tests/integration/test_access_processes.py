"""Credentials among processes: who may start, what is read anew, who shows whose to whom."""

import json
import os
import signal
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import httpx
import pytest

from api import listener
from api.access.keys import supervisors_key
from tests import forked
from tests.credentials import KeyFile, bearer, issuer
from tests.guarded import Guarded, form, guard
from tests.processes import Programs, environment, until
from tests.trust import TRUST
from wire.settings import TopicSettings

REFUSED = "can be reached from other machines, and nobody is asked who they are"
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104


@pytest.mark.parametrize(
    ("command", "host"), [("api", EVERYWHERE), ("api", "::"), ("up", EVERYWHERE)]
)
def test_nobody_is_let_in_from_elsewhere_unasked(command: str, host: str, tmp_path: Path) -> None:
    """The start is refused before anything else starts: one line that says what to do, code 2."""
    argv = [command, "--host", host, "--port", "0"]
    if command == "up":
        argv += ["--data-dir", str(tmp_path / "data")]
    done = forked.run("compose", *argv, env=os.environ)
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
            with httpx.Client(base_url=url, timeout=30, verify=TRUST) as client:
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
        with httpx.Client(base_url=base, timeout=30, verify=TRUST) as client:
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
    """One /metrics for all of them, by header and by cookie; and a session holds at each.

    A transaction that another one took is told to those only who may look it up here.
    """
    keys, given = guard(tmp_path, api_supervisor_key=supervisors_key())
    key, writer = keys.add("metrics:read"), keys.add("transactions:write")
    with ExitStack() as held:
        own = [held.enter_context(closing(listener.bind("127.0.0.1", 0))) for _ in range(2)]
        places = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in own)
        sock = held.enter_context(closing(listener.bind("127.0.0.1", 0)))
        env = environment(shared_settings, **given)
        for number, alone in enumerate(own, 1):
            fds = (sock.fileno(), alone.fileno())
            argv = ("--api-fd", str(fds[0]), "--api-worker-fd", str(fds[1]))
            argv += ("--api-worker", str(number), "--api-workers-at", places)
            run.start("-m", "api", *argv, env=env, fds=fds)
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30, verify=TRUST) as client:
            done = form(client, "/sign-in", credential=key)
            session = {"Cookie": done.headers["set-cookie"].split(";")[0]}
            for headers in (bearer(key), session):
                until(lambda by=headers: BOTH in client.get("/metrics", headers=by).text)
            for each in own:
                at = f"http://127.0.0.1:{each.getsockname()[1]}/metrics/worker"
                assert httpx.get(at, headers=session, verify=TRUST).status_code == 200
                assert httpx.get(at, verify=TRUST).status_code == 401
            at = [f"http://127.0.0.1:{each.getsockname()[1]}" for each in own]
            until(lambda: httpx.get(f"{at[0]}/readyz", verify=TRUST).is_success)
            body = {"transaction_id": "one", "source": "a", "target": "b", "amount": "1"}
            posted = httpx.post(
                f"{at[0]}/transactions", json=body, headers=bearer(writer), verify=TRUST
            )
            assert posted.status_code == 202
            for place in (f"{at[1]}/transactions/one", f"{at[0]}/worker/transactions/one"):
                asked = [
                    httpx.get(place, headers=by, verify=TRUST)
                    for by in (bearer(writer), bearer(key), {})
                ]
                assert [each.status_code for each in asked] == [202, 403, 401]


@pytest.mark.parametrize("by", ["variable", "file", "nothing"])
def test_the_load_generator_says_who_it_is(guarded: Guarded, tmp_path: Path, by: str) -> None:
    """By LOADGEN_TOKEN or a file, for its transactions and for the stream that it checks."""
    key = guarded.keys.add("transactions:write", "stream:legit", "stream:fraud")
    with guarded.client(headers=bearer(key)) as client:
        until(lambda: client.get("/status.json").is_success)
    file = tmp_path / "token"
    file.write_text(f"{key}\n")
    argv = ["--url", guarded.url, "--tps", "50", "--duration", "1"]
    argv += ["--threshold", "errors==0", "--verify", "--settle", "0", "--json"]
    if by == "file":
        argv += ["--token-file", str(file)]
    env = {**os.environ, **({"LOADGEN_TOKEN": key} if by == "variable" else {})}
    done = forked.run("loadgen", *argv, env=env)
    assert key not in done.stdout + done.stderr
    if by == "nothing":
        assert (done.returncode, "/stream/all answers 401" in done.stderr) == (2, True)
    else:
        found = json.loads(done.stdout)  # no detector runs: verdicts there are none
        assert (found["accepted"], found["thresholds"][0]["held"]) == (50, True)
