"""`fraudstream up` for tests: a whole stack in a process of its own, and its clients."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from tests import forked
from tests.trust import TRUST

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

    def __init__(self, data: Path, *options: str, cwd: Path | None = None) -> None:
        self.data = data
        self.output = data.with_suffix(f".{uuid.uuid4().hex[:6]}.out")
        self.kafka_port = free_port()
        argv = [sys.executable, "-P", "-m", "compose", "up", "--data-dir", str(data), "--port", "0"]
        argv += ["--kafka-port", str(self.kafka_port), *options]
        with self.output.open("wb") as output:
            self.process = psutil.Popen(argv, cwd=cwd, stdout=output, stderr=subprocess.STDOUT)
        self.children: list[psutil.Process] = []
        self.url = ""

    def wait_ready(self) -> str:
        """Wait for the ready line; give the gateway's address."""
        until(lambda: "\nready http" in "\n" + self.output.read_text() or self.exited)
        text = self.output.read_text()
        assert not self.exited, text
        self.children = self.process.children(recursive=True)
        self.url = next(line.split()[1] for line in text.splitlines() if line.startswith("ready"))
        return self.url

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
    return forked.run("compose", *arguments, env=os.environ)


@contextmanager
def stacks(directory: Path) -> Iterator[Callable[..., Stack]]:
    """Give a starter of stacks; whatever is left of them is killed."""
    started: list[Stack] = []

    def start(*options: str, data: str = "data", cwd: Path | None = None) -> Stack:
        started.append(Stack(directory / data, *options, cwd=cwd))
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
    with httpx.stream(
        "GET", f"{url}/stream/{stream}?since=earliest", timeout=DEADLINE_S, verify=TRUST
    ) as answer:
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
        answer = httpx.post(
            f"{url}/transactions", content=text, headers=JSON, timeout=DEADLINE_S, verify=TRUST
        )
        if answer.status_code == 202:
            transaction_id: str = answer.json()["transaction_id"]
            return transaction_id
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


JSON = {"content-type": "application/json"}
