"""`fraudstream up`: the main job end to end, its stops and starts, and what goes wrong."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.credentials import KeyFile, bearer

DEADLINE_S = 60.0
STOPPED_WITHIN_S = 10.0


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Stack:
    """One `fraudstream up` in a process of its own."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.output = data.with_suffix(f".{uuid.uuid4().hex[:6]}.out")
        self.kafka_port = free_port()
        argv = [sys.executable, "-m", "compose", "up", "--data-dir", str(data), "--port", "0"]
        argv += ["--kafka-port", str(self.kafka_port), *options]
        with self.output.open("wb") as output:
            self.process = psutil.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
        self.children: list[psutil.Process] = []

    def wait_ready(self) -> str:
        """Wait for the ready line; give the gateway's address."""
        until(lambda: "\nready http" in "\n" + self.output.read_text() or self.exited)
        text = self.output.read_text()
        assert not self.exited, text
        self.children = self.process.children(recursive=True)
        return next(line.split()[1] for line in text.splitlines() if line.startswith("ready"))

    @property
    def exited(self) -> bool:
        """True when the command has ended."""
        return self.process.poll() is not None

    def part(self, word: str) -> psutil.Process | None:
        """Find a part's process by a word of its command line, as an operator does."""
        for child in self.process.children(recursive=True):
            try:
                if word in child.cmdline():
                    return child
            except psutil.Error:
                continue
        return None

    def end(self, signum: signal.Signals) -> int:
        """Send a signal; give the exit code."""
        self.children = self.process.children(recursive=True) or self.children
        self.process.send_signal(signum)
        code: int = self.process.wait(STOPPED_WITHIN_S)
        return code

    def nobody_left(self) -> bool:
        """Tell whether all processes of the stack are gone."""
        return not any(
            child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in self.children
        )


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the fraudstream command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "compose", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start stacks; whatever a test leaves is killed."""
    started: list[Stack] = []

    def start(*options: str, data: str = "data") -> Stack:
        started.append(Stack(tmp_path / data, *options))
        return started[-1]

    yield start
    for stack in started:
        if not stack.exited:
            stack.process.kill()
            stack.process.wait()
        until(stack.nobody_left)


def verdicts(
    url: str, stream: str, wanted: set[str], *, at_least: int = 1
) -> dict[str, dict[str, object]]:
    """Read a stream from its beginning until the wanted transactions have come by."""
    found: dict[str, dict[str, object]] = {}
    with httpx.stream("GET", f"{url}/stream/{stream}?since=earliest", timeout=DEADLINE_S) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                verdict = json.loads(line[5:])
                found[verdict["transaction_id"]] = verdict
            if wanted <= found.keys() and len(found) >= at_least:
                break
    return found


def post(url: str, amount: str, **fields: str) -> str:
    """Post one transaction, as a client does: again, with the same id, after a 503; give its id."""
    body = {"transaction_id": uuid.uuid4(), "source": "alice", "target": "bob"}
    text = json.dumps({k: str(v) for k, v in (body | {"amount": amount} | fields).items()})
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = httpx.post(f"{url}/transactions", content=text, headers=JSON, timeout=DEADLINE_S)
        if answer.status_code == 202:
            transaction_id: str = answer.json()["transaction_id"]
            return transaction_id
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


JSON = {"content-type": "application/json"}


def test_the_limit_is_strict_and_each_verdict_is_on_one_stream(up: Callable[..., Stack]) -> None:
    """900.00 is legit, 900.01 is fraud; each is seen on its stream and not on the other."""
    stack = up("--tps", "0")
    url = stack.wait_ready()
    legit, fraud = post(url, "900.00"), post(url, "900.01")
    seen = {
        name: verdicts(url, name, {wanted}) for name, wanted in (("legit", legit), ("fraud", fraud))
    }
    assert seen["legit"][legit]["decision"] == "legit"
    assert seen["fraud"][fraud]["decision"] == "fraud"
    assert fraud not in seen["legit"]
    assert legit not in seen["fraud"]
    assert {legit, fraud} <= verdicts(url, "all", {legit, fraud}).keys()
    assert stack.end(signal.SIGINT) == 0
    assert stack.nobody_left()


def test_it_runs_the_load_and_goes_on_from_its_data(up: Callable[..., Stack]) -> None:
    """Load flows after the ready line; stopped and started again, the old verdicts are there."""
    stack = up("--tps", "100")
    url = stack.wait_ready()
    mine = post(url, "901", transaction_id="kept-1")
    assert mine in verdicts(url, "fraud", {mine}, at_least=5)
    assert stack.end(signal.SIGTERM) == 0
    assert stack.nobody_left()
    again = up("--tps", "0")
    assert mine in verdicts(again.wait_ready(), "fraud", {mine})


@pytest.mark.parametrize("part", ["detector", "api", "kafka.Kafka"])
def test_a_killed_part_comes_back_and_nothing_is_lost(up: Callable[..., Stack], part: str) -> None:
    """After SIGKILL of a part, what was accepted before and after gets its verdict."""
    stack = up("--tps", "0")
    url = stack.wait_ready()
    before = post(url, "1.00")
    victim = stack.part(part)
    assert victim is not None
    victim.kill()
    until(lambda: (found := stack.part(part)) is not None and found.pid != victim.pid)
    until(lambda: httpx.get(f"{url}/readyz", timeout=DEADLINE_S).status_code == 200)
    after = post(url, "2.00")
    assert {before, after} <= verdicts(url, "legit", {before, after}).keys()


def test_where_keys_are_asked_for_its_own_load_has_one(
    up: Callable[..., Stack], tmp_path: Path
) -> None:
    """Probe and load come in by a key that lives as long as the stack, and stands nowhere."""
    keys = KeyFile(tmp_path)
    mine = bearer(keys.add("transactions:write", "metrics:read"))
    kept = keys.path.read_text()
    stack = up("--tps", "50", "--api-workers", "2", "--keys-file", str(keys.path))
    url = stack.wait_ready()

    def taken() -> bool:
        text = httpx.get(f"{url}/metrics", headers=mine, timeout=DEADLINE_S).text
        counts = re.findall(r'fraudstream_api_requests_total{.*status="202".*} (.*)', text)
        return sum(map(float, counts)) > 20

    until(taken)
    assert httpx.get(f"{url}/metrics", timeout=DEADLINE_S).status_code == 401
    form = {"credential": mine["Authorization"].split()[1]}
    page = {"Sec-Fetch-Site": "same-origin"}
    done = httpx.post(f"{url}/sign-in", data=form, headers=page, timeout=DEADLINE_S)
    session = {"Cookie": done.headers["set-cookie"].split(";")[0]}
    for _ in range(20):  # connections go to either process, and both know the session
        answer = httpx.get(f"{url}/status.json", headers=session, timeout=DEADLINE_S)
        assert answer.status_code == 200
    assert not [line for line in map(psutil.Process.cmdline, stack.children) if "fs_" in str(line)]
    assert keys.path.read_text() == kept
    assert stack.end(signal.SIGINT) == 0


def test_no_process_outlives_a_killed_up(up: Callable[..., Stack]) -> None:
    """SIGKILL of the supervisor leaves nobody behind."""
    stack = up("--tps", "10", "--detectors", "2")
    stack.wait_ready()
    assert len(stack.children) >= 4
    stack.process.kill()
    stack.process.wait()
    until(stack.nobody_left)


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


def test_a_second_up_on_the_same_data_is_refused(up: Callable[..., Stack]) -> None:
    """The data directory has one user, and the error says who."""
    stack = up("--tps", "0")
    until(lambda: (stack.data / "up.lock").exists() and (stack.data / "up.lock").read_text())
    result = command("up", "--data-dir", str(stack.data), "--port", "0")
    assert result.returncode == 2
    assert f"process {stack.process.pid}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_tail_prints_verdicts_from_the_beginning(up: Callable[..., Stack]) -> None:
    """`fraudstream tail` reads straight from Kafka, as the tutorial's console consumer does."""
    stack = up("--tps", "0")
    url = stack.wait_ready()
    fraud = post(url, "1000.50")
    kafka = ("--kafka-broker-url", f"127.0.0.1:{stack.kafka_port}")
    once = ("--from-beginning", "--max-messages", "1")
    as_json = command("tail", "fraud", *kafka, *once, "--json")
    assert json.loads(as_json.stdout)["transaction_id"] == fraud
    as_text = command("tail", "fraud", *kafka, *once)
    assert "1000.50 EUR alice → bob amount-limit" in as_text.stdout


def test_it_uses_a_kafka_of_the_users_own(up: Callable[..., Stack], kafka_address: str) -> None:
    """With --kafka no broker is started; the topics are made and the round trip works."""
    name = uuid.uuid4().hex
    topics = [f"--{kind}-topic={name}.{kind}" for kind in ("transactions", "legit", "fraud")]
    stack = up("--tps", "0", "--kafka", kafka_address, *topics)
    url = stack.wait_ready()
    assert stack.part("kafka.Kafka") is None
    assert httpx.get(f"{url}/readyz", timeout=DEADLINE_S).status_code == 200
