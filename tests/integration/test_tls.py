"""TLS served by the gateway itself: shared by its processes, renewed while it serves."""

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import compose
from api import listener
from tests.certificates import Authority
from tests.processes import Process, Programs, environment, is_ready, programs, until
from wire.settings import TopicSettings

BODY = {"source": "anna", "target": "ben", "amount": "1"}


class Served:
    """Gateway processes on one address, with a certificate that is renewed."""

    def __init__(self, here: Path, settings: TopicSettings, run: Programs) -> None:
        self.here, self.run = here, run
        self.authority = Authority(here)
        self.certificate, self.key = here / "served.pem", here / "served.key"
        self.renew()
        self._env = environment(
            settings,
            api_tls_certificate=self.certificate,
            api_tls_key=self.key,
            log_format="json",
            stream_heartbeat_seconds=600,
        )
        self._socket = listener.bind("127.0.0.1", 0)
        self.port = int(self._socket.getsockname()[1])
        self.url = f"https://localhost:{self.port}"

    def renew(self) -> int:
        """Put another certificate and key in place; give its serial number."""
        made = self.authority.certify("served-next")
        shutil.copy(made.key, self.key)
        shutil.copy(made.certificate, self.certificate)
        return made.serial

    def start(self, *arguments: str, fds: tuple[int, ...] = (), **given: object) -> Process:
        """Start a process."""
        fd = self._socket.fileno()
        env = self._env | {name.upper(): str(value) for name, value in given.items()}
        argv = ("-m", "api", "--api-fd", str(fd), *arguments)
        return self.run.start(*argv, env=env, fds=(fd, *fds))

    def serial(self) -> int:
        """Give the number of the certificate that a new connection gets."""
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            self.trust().wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            return x509.load_der_x509_certificate(secure.getpeercert(True) or b"").serial_number

    def trust(self) -> ssl.SSLContext:
        """Give a context that trusts it."""
        return ssl.create_default_context(cafile=self.authority.file)

    def client(self) -> httpx.Client:
        """Give a client that trusts it."""
        return httpx.Client(base_url=self.url, verify=self.trust(), timeout=30)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture
def served(tmp_path: Path, shared_settings: TopicSettings) -> Iterator[Served]:
    """Give what it takes to serve TLS; nothing is started yet."""
    with programs(tmp_path) as run, closing(Served(tmp_path, shared_settings, run)) as made:
        yield made


def test_a_renewed_certificate_is_served(served: Served) -> None:
    """New connections get it, open ones go on; a file that can't be used changes nothing.

    Each is in the audit log, with the file's name.
    """
    audit = served.here / "audit"
    process = served.start(api_tls_poll_seconds=0.05, audit_log=audit)
    with served.client() as client:
        until(lambda: is_ready(client), lambda: process.output)
        with client.stream("GET", "/stream/all") as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("retry:")
            renewed = served.renew()
            until(lambda: served.serial() == renewed)
            served.certificate.write_text("c4n4ry: no certificate")
            until(lambda: "the old one is kept" in process.output)
            assert served.serial() == renewed
            other = served.authority.certify("other")
            shutil.copy(other.certificate, served.certificate)  # without its key
            until(lambda: process.output.count("the old one is kept") == 2)
            assert served.serial() == renewed
            served.certificate.unlink()
            until(lambda: process.output.count("the old one is kept") == 3)
            assert served.serial() == renewed
            again = served.renew()
            until(lambda: served.serial() == again)
            assert client.post("/transactions", json=BODY).status_code == 202
            assert next(lines) == ""  # the stream that was open all the time
    assert "c4n4ry" not in process.output
    loaded = {
        "certificate loaded": "certificate-renewed",
        "certificate not loaded; the old one is kept": "certificate-refused",
    }
    told = [json.loads(line)["event"] for line in process.output.splitlines()]
    recorded = [json.loads(line) for line in audit.read_text().splitlines()]
    of_files = [line for line in recorded if "file" in line]
    assert [line["event"] for line in of_files] == [loaded[each] for each in told if each in loaded]
    assert {(line["part"], line["file"]) for line in of_files} == {("api", str(served.certificate))}


def test_the_images_health_check_asks_as_is_served(served: Served) -> None:
    """By HTTPS where there is a certificate, whoever signed that; a dead gateway is not healthy."""
    build = (Path(compose.__file__).parent / "Dockerfile").read_text()
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (.*)$", build, re.MULTILINE)
    check = [sys.executable, *json.loads(command)[1:]]
    env = {"HEALTH_PORT": str(served.port), "API_TLS_CERTIFICATE": str(served.certificate)}
    process = served.start()
    with served.client() as client:
        until(lambda: is_ready(client), lambda: process.output)
    healthy = subprocess.run(check, env=env, check=False)
    process.popen.kill()
    process.wait()
    served.close()
    dead = subprocess.run(check, env=env, stderr=subprocess.DEVNULL, check=False)
    assert (healthy.returncode, dead.returncode) == (0, 1)


def test_processes_share_it(served: Served) -> None:
    """Several on one socket, asked for all their numbers; SIGHUP has each look at once."""
    own = [listener.bind("127.0.0.1", 0) for _ in range(2)]
    places = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in own)
    processes = []
    for number, alone in enumerate(own, 1):
        fd = alone.fileno()
        arguments = ("--api-worker", str(number), "--api-workers-at", places)
        arguments += ("--api-worker-fd", str(fd))
        processes.append(served.start(*arguments, fds=(fd,), api_tls_poll_seconds=3600))
    for process, alone in zip(processes, own, strict=True):
        url = f"https://localhost:{alone.getsockname()[1]}"
        with httpx.Client(base_url=url, verify=served.trust()) as client:
            until(lambda client=client: is_ready(client), lambda p=process: p.output)
    with served.client() as client:
        assert "fraudstream_api_workers 2.0" in client.get("/metrics").text
    renewed = served.renew()
    for process in processes:
        process.popen.send_signal(signal.SIGHUP)
        until(lambda p=process: "certificate loaded" in p.output)
    assert {served.serial() for _ in range(8)} == {renewed}
    for each in own:
        each.close()


def test_a_sighup_while_it_starts_waits_until_it_is_up(served: Served) -> None:
    """It does not end the process, as it would by default, and is not forgotten."""
    process = served.start(api_tls_poll_seconds=3600)
    until(lambda: "listening" in process.output)
    process.popen.send_signal(signal.SIGHUP)
    until(lambda: "certificate loaded" in process.output, lambda: process.output)
    with served.client() as client:
        until(lambda: is_ready(client), lambda: process.output)


def test_who_speaks_no_tls_is_let_go(served: Served) -> None:
    """Plain HTTP, an old protocol or nonsense end that connection, and no other."""
    process = served.start()
    with served.client() as client:
        until(lambda: is_ready(client), lambda: process.output)
        for data in (
            b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
            b"\x16\x03\x01\x00\x05hello",
            b"\0" * 99,
        ):
            with socket.create_connection(("127.0.0.1", served.port), 10) as plain:
                plain.sendall(data)
                assert b"200" not in plain.recv(1000)
        old = served.trust()
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", served.port), 10) as plain,
            old.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert secure.selected_alpn_protocol() == "http/1.1"
        assert client.get("/healthz").status_code == 200
    assert "Traceback" not in process.output


def test_loadgen_trusts_a_file(served: Served) -> None:
    """With the authority's file it drives; without, it says that the certificate is not trusted."""
    gateway = served.start()
    with served.client() as client:
        until(lambda: is_ready(client), lambda: gateway.output)
    argv = ("-m", "loadgen", "--url", served.url, "--tps", "50", "--duration", "0.5", "--wait", "1")
    trusting = served.run.start(*argv, "--cafile", str(served.authority.file), "--json")
    assert trusting.wait() == 0, trusting.output
    strict = served.run.start(*argv)
    assert strict.wait() == 2
    assert "certificate verify failed" in strict.output.lower()
    insecure = served.run.start(*argv, "--insecure")
    assert insecure.wait() == 0, insecure.output
    empty = served.here / "empty.pem"
    empty.write_text("")
    none = served.run.start(*argv, "--cafile", str(empty))
    assert none.wait() == 2
    assert none.output.startswith(f"error: LOADGEN_CAFILE={empty}: ")
    assert none.output.endswith("; expected certificates of authorities\n")


def test_what_can_not_be_served_is_told(served: Served) -> None:
    """A key of another certificate, or one with a password, ends the start in one line."""
    other = served.authority.certify("other")
    wrong = served.start("--tls-key", str(other.key))
    assert wrong.wait() == 2
    assert wrong.output.startswith("error: can't use the certificate")
    key = serialization.load_pem_private_key(other.key.read_bytes(), None)
    locked = served.here / "locked.key"
    how = serialization.BestAvailableEncryption(b"c4n4ry")
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked.write_bytes(key.private_bytes(*forms, how))
    arguments = ("--tls-key", str(locked), "--tls-certificate", str(other.certificate))
    without = served.start(*arguments)
    assert without.wait() == 2
    assert without.output.startswith("error: can't use the certificate")
    with_it = served.start(*arguments, api_tls_key_password="c4n4ry")
    with served.client() as client:
        until(lambda: is_ready(client), lambda: with_it.output)
    no_certificate = served.run.start("-m", "api", "--tls-key", str(other.key))
    assert no_certificate.wait() == 2
    assert "API_TLS_KEY needs API_TLS_CERTIFICATE" in no_certificate.output
