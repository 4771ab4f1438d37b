"""Nothing secret is written down: not in logs, errors, --help, metrics or command lines."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from api import listener
from tests import forked
from tests.certificates import Authority
from tests.credentials import KeyFile, bearer, issuer, jwt_settings
from tests.processes import Programs, environment, is_ready, until
from tests.streaming import verdict
from tests.trust import TRUST
from wire.settings import TopicSettings

CANARY = "c4n4ry"
SECRETS = {
    name: f"x-key={CANARY}-{name.lower()}-0123456789"
    for name in (
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SSL_KEY_PASSWORD",
        "KAFKA_OAUTH_CLIENT_SECRET",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "STREAM_MASK_KEY",
        "API_TLS_KEY_PASSWORD",
        "API_SESSION_KEY",
        "API_SUPERVISOR_KEY",
        "LOADGEN_TOKEN",
    )
}
COMMANDS = (
    "up",
    "api",
    "detector",
    "loadgen",
    "verify",
    "backtest",
    "broker",
    "topics",
    "tail all",
    "keys create",
    "keys list",
    "keys revoke",
)
WRONG = (
    {"KAFKA_SECURITY_PROTOCOL": "NONE"},
    {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
    {"OTEL_TRACES_SAMPLER": "some", "STREAM_MASK_ACCOUNTS": "some"},
    {"STREAM_MASK_ACCOUNTS": "always", "STREAM_MASK_KEY": CANARY},
    {"OTEL_EXPORTER_OTLP_HEADERS": CANARY},
    {"API_SESSION_KEY": CANARY},
    {"API_KEYS_FILE": "/dev/null", "API_SUPERVISOR_KEY": CANARY},
)


END = "\0"  # after the help of each command


def asks(command: str) -> str:
    """Give the statement that asks for a command's help."""
    words = [*command.split(), "--help"]
    return f"app({words}, standalone_mode=False); print({END!r}, end='', flush=True)"


def said(*argv: str, **env: str) -> str:
    """Run a command to its end; give all that it printed."""
    done = forked.run("compose", *argv, env={**os.environ, **SECRETS, **env})
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What `--help` prints for each command, all by one process: a start takes most of the time."""
    asked = "\n".join(("from compose.cli import app", *map(asks, COMMANDS)))
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, **SECRETS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    *texts, rest = done.stdout.split(END)
    assert rest == ""
    return dict(zip(COMMANDS, texts, strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_none(helps: dict[str, str], command: str) -> None:
    """Defaults from the environment are shown; these are not."""
    text = helps[command]
    assert f" {command} " in text
    assert "KAFKA_BROKER_URL" in text or command.split(maxsplit=1)[0] in ("broker", "keys")
    assert CANARY not in text


@pytest.mark.parametrize("env", WRONG, ids=lambda env: next(iter(env.items()))[1])
def test_refused_settings_show_none(env: dict[str, str]) -> None:
    """A settings error names what is wrong, not what else is set."""
    text = said("api", "--port", "0", **env)
    assert text.startswith("error: ")
    assert CANARY not in text


def test_failing_starts_show_none(run: Programs, tmp_path: Path) -> None:
    """Wrong keys, dead brokers, endpoints and collectors are told without what was given them."""
    own = Authority(tmp_path).certify("own")
    dead = {
        "KAFKA_BROKER_URL": "127.0.0.1:1",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_OAUTH_TOKEN_URL": "http://127.0.0.1:1/token",
        "KAFKA_OAUTH_CLIENT_ID": "us",
        "KAFKA_SASL_USERNAME": "us",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_TRACES_SAMPLER_ARG": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "LOG_LEVEL": "debug",
        **SECRETS,
    }
    detector, api = ("detector",), ("api", "--port", "0")
    for mechanism, argv in (("PLAIN", detector), ("SCRAM-SHA-512", api), ("OAUTHBEARER", detector)):
        of = dead | {"KAFKA_SASL_MECHANISM": mechanism}
        run.start("-m", "compose", *argv, env=of, anew=True)
    for process in tuple(run.started):
        until(
            lambda p=process: p.output.count("waiting for kafka") > 1,
            lambda p=process: p.output,
        )
        assert CANARY not in Path(f"/proc/{process.popen.pid}/cmdline").read_text()
        process.popen.terminate()  # its end is told without them too
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        gateway = run.start("-m", "api", "--api-fd", str(fd), env=of, fds=(fd,))
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30, verify=TRUST) as client:
            until(lambda: client.get("/healthz").is_success)
            client.get("/transactions/unknown")
            until(lambda: "Transient error" in gateway.output, lambda: gateway.output)
    wrong = (
        "--tls-certificate",
        str(own.certificate),
        "--tls-key",
        str(tmp_path / "authority.pem"),
    )
    bad_key = run.start("-m", "compose", "api", *wrong, env=dead)
    assert bad_key.wait() == 2
    assert CANARY not in "".join(each.output for each in run.started)


def test_credentials_are_not_logged(
    run: Programs, shared_settings: TopicSettings, tmp_path: Path
) -> None:
    """Keys, tokens, sessions and forms: good ones, bad ones, and those in the wrong place."""
    keys = KeyFile(tmp_path)
    key, revoked = keys.add(name="anna"), keys.add()
    keys.revoke(revoked)
    token, signed = issuer().token(), issuer().token(aud="another")
    given = {"log_level": "debug", "api_keys_file": keys.path, "api_keys_poll_seconds": 0.05}
    env = environment(
        shared_settings, **given, **jwt_settings(tmp_path), api_session_key=CANARY * 6
    )
    said = [CANARY, keys.path.read_text().split('"sha256": "')[1][:64]]
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        gateway = run.start("-m", "api", "--api-fd", str(fd), env=env, fds=(fd,), anew=True)
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30, verify=TRUST) as client:
            until(lambda: is_ready(client), lambda: gateway.output)
            for text in (key, revoked, token, signed, f"fs_{CANARY}_x", CANARY, f"{CANARY}.y.z"):
                said += [text, text.split("_")[-1], text.split(".")[-1]]
                for path in ("/transactions", "/stream/all", "/metrics", f"/nothing?token={text}"):
                    answer = client.head(path, headers=bearer(text))
                    assert answer.status_code < 500
                    client.head(
                        f"{path}?access_token={text}", headers={"Cookie": f"fraudstream={text}"}
                    )
                form = {"credential": text, "next": "/"}
                site = {"Sec-Fetch-Site": "same-origin"}
                answer = client.post("/sign-in", data=form, headers=site)
                assert text not in answer.text
                said += [answer.headers.get("set-cookie", CANARY).split(";")[0].split("=", 1)[-1]]
                client.cookies.clear()
            before = keys.path.read_text()
            keys.path.write_text(before.replace("metrics:read", CANARY))
            until(lambda: "the old ones are kept" in gateway.output)
            exposed = client.get("/metrics", headers=bearer(key)).text
        process = Path(f"/proc/{gateway.popen.pid}/cmdline").read_text()
    run.end()
    for secret in (each for each in said if len(each) > 5 and each != CANARY):
        assert secret not in gateway.output + exposed + process


PAYLOAD = f"{CANARY}-payload"
BODIES = (
    f'{{"source": "{PAYLOAD}", "target": "b", "amount": 1}}',
    f'{{"source": "{PAYLOAD}", "target": "b", "amount": "-1"}}',
    f'{{"source": "a", "{PAYLOAD}": "b", "amount": 1}}',
    f'{{"source": "a", "target": "b", "amount": "{PAYLOAD}"}}',
    f'{{"source": "a", "target": "b", "amount": 1, "currency": "{PAYLOAD}"}}',
    f'{{"source": "a", "target": "b", "amount": 1, "occurred_at": "{PAYLOAD}"}}',
    f'[{{"source": "{PAYLOAD}"}}]',
    PAYLOAD,
)


def test_payloads_are_not_logged(run: Programs, shared_settings: TopicSettings) -> None:
    """Good or bad, at any level, by gateway or detector, in lines or labels."""
    settings = shared_settings
    env = environment(settings, log_level="debug", detector_group="secrets")
    with (
        closing(listener.bind("127.0.0.1", 0)) as sock,
        closing(listener.bind("127.0.0.1", 0)) as own,
    ):
        fd, port = sock.fileno(), own.getsockname()[1]
        own.close()
        run.start("-m", "api", "--api-fd", str(fd), env=env, fds=(fd,))
        run.start("-m", "detector", "--metrics-port", str(port), env=env)
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30, verify=TRUST) as client:
            until(lambda: is_ready(client), lambda: run.started[0].output)
            producer = Producer({"bootstrap.servers": settings.kafka_broker_url})
            for body in BODIES:
                for kind in ("application/json", "application/x-ndjson", f"text/{PAYLOAD}"):
                    client.post("/transactions", content=body, headers={"content-type": kind})
                producer.produce(settings.transactions_topic, body, PAYLOAD)
                producer.produce(settings.fraud_topic, body, PAYLOAD)
            for given in ({"decision": PAYLOAD}, {"currency": PAYLOAD}, {"rules_version": PAYLOAD}):
                value = verdict("t").replace(b'"transaction_id":"t"', b'"transaction_id":"u"')
                name = next(iter(given))
                odd = value.replace(f'"{name}":"'.encode(), f'"{name}":"{PAYLOAD}'.encode())
                producer.produce(settings.legit_topic, odd, PAYLOAD)
            assert producer.flush(20) == 0
            for path in ("stream/all?account=", "transactions/", "stream/all?rule=", "", "docs/"):
                answer = client.head(f"/{path}{PAYLOAD}")
                assert answer.status_code < 500
            # A filter has the gateway decode every event, those that are no verdicts too.
            with client.stream("GET", "/stream/all?since=earliest&min_amount=1") as stream:
                until(lambda: "record is no verdict" in run.started[0].output)
                stream.close()
            wait = {"Prefer": "wait=20"}
            body = {"source": PAYLOAD, "target": PAYLOAD, "amount": "901"}
            assert client.post("/transactions", json=body, headers=wait).status_code == 200
            exposed = (
                client.get("/metrics").text
                + httpx.get(f"http://127.0.0.1:{port}/metrics", verify=TRUST).text
            )
    run.end()
    assert PAYLOAD not in exposed
    for each in run.started:
        lines = [line for line in each.output.splitlines() if CANARY in line]
        assert not lines, lines[0][:500]
