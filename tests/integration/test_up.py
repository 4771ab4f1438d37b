"""`fraudstream up`: its starts and stops, its load, and what goes wrong with them."""

import re
import signal
import socket
import ssl
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.certificates import Authority
from tests.credentials import KeyFile, bearer
from tests.stack import DEADLINE_S, Stack, command, stacks, until


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start stacks; whatever a test leaves is killed."""
    with stacks(tmp_path) as start:
        yield start


def test_its_own_load_comes_in_by_tls_and_a_key(
    up: Callable[..., Stack], tmp_path: Path, kafka_address: str
) -> None:
    """To two gateway processes, by a key that lives as long as the stack, and stands nowhere.

    It goes to a Kafka of the user's own: with --kafka no broker is started, and topics are made.
    And it is started in a directory where modules have the names of ours.
    """
    for module in ("api", "detector", "loadgen", "wire"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('of another project')\n")
    keys = KeyFile(tmp_path)
    mine = bearer(keys.add("transactions:write", "metrics:read"))
    kept = keys.path.read_text()
    authority = Authority(tmp_path)
    own = authority.certify("served")
    tls = ("--tls-certificate", str(own.certificate), "--tls-key", str(own.key))
    name = uuid.uuid4().hex
    topics = [f"--{kind}-topic={name}.{kind}" for kind in ("transactions", "legit", "fraud")]
    options = ("--api-workers", "2", "--keys-file", str(keys.path), "--kafka", kafka_address)
    stack = up("--tps", "100", *options, *topics, *tls, cwd=tmp_path)
    url = stack.wait_ready()
    assert stack.part("kafka.Kafka") is None
    assert url.startswith("https://127.0.0.1:")
    ask = {"timeout": DEADLINE_S, "verify": ssl.create_default_context(cafile=authority.file)}

    def both_took() -> bool:
        # The load may stay on few connections, all of one process: each of these is a new one.
        sent = {"source": "a", "target": "b", "amount": 1}
        httpx.post(f"{url}/transactions", json=sent, headers=mine, **ask)
        text = httpx.get(f"{url}/metrics", headers=mine, **ask).text
        counts = re.findall(r'fraudstream_api_requests_total{.*status="202".*} (.*)', text)
        return len(counts) == 2 and sum(map(float, counts)) > 200  # most of them the load's

    until(both_took)
    assert httpx.get(f"{url}/metrics", **ask).status_code == 401
    form = {"credential": mine["Authorization"].split()[1]}
    page = {"Sec-Fetch-Site": "same-origin"}
    done = httpx.post(f"{url}/sign-in", data=form, headers=page, **ask)
    session = {"Cookie": done.headers["set-cookie"].split(";")[0]}
    for _ in range(20):  # connections go to either process, and both know the session
        assert httpx.get(f"{url}/status.json", headers=session, **ask).status_code == 200
    assert not [line for line in map(psutil.Process.cmdline, stack.children) if "fs_" in str(line)]
    assert keys.path.read_text() == kept
    assert stack.end(signal.SIGINT) == 0
    assert stack.nobody_left()
    summary = stack.output.read_text()
    assert re.search(r"^accepted +[1-9]", summary, re.MULTILINE), summary
    assert re.search(r"^errors +0$", summary, re.MULTILINE), summary


def test_ctrl_c_while_it_starts_leaves_nobody(up: Callable[..., Stack]) -> None:
    """A signal in the middle of the start ends it cleanly too."""
    stack = up("--tps", "0")
    until(lambda: stack.part("kafka.Kafka"))
    assert stack.end(signal.SIGINT) == 0
    assert stack.nobody_left()


def test_a_port_in_use_is_one_line_and_code_2(tmp_path: Path) -> None:
    """Nothing is started when the gateway's port is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = command("up", "--data-dir", str(tmp_path / "d"), "--port", port)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: port {port} on 127.0.0.1 is in use by another program\n"


@pytest.mark.parametrize("option", ["--port", "--kafka-port"])
def test_a_start_that_cannot_be_made_empties_nothing(tmp_path: Path, option: str) -> None:
    """With --fresh the data goes only when nothing is in the way any more."""
    kept = tmp_path / "kafka" / "kept"
    kept.parent.mkdir()
    kept.touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = {"--port": "0", option: str(taken.getsockname()[1])}
        options = [word for pair in place.items() for word in pair]
        result = command("up", "--data-dir", str(tmp_path), "--fresh", *options)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert kept.exists()


@pytest.mark.parametrize(
    ("variable", "value"), [("MAX_BATCH_RECORDS", "abc"), ("DETECTOR_RULES", "bad.toml")]
)
def test_what_a_part_would_refuse_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """One line names the variable, or file and rule; no log of any part is begun."""
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text('[[rules]]\nid = "x"\nkind = "nonsense"\n')
    monkeypatch.setenv(variable, value)
    result = command("up", "--data-dir", str(tmp_path / "d"), "--port", "0")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: ")
    assert value in result.stderr
    assert not (tmp_path / "d" / "logs").exists()
