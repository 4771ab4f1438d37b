"""Processes of the parts for tests: started with settings by environment, their output kept."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from tests import forked
from wire.settings import KafkaSettings

DEADLINE_S = 40


@dataclass
class Process:
    """A running program."""

    popen: "forked.Forked | subprocess.Popen[bytes]"
    log: Path

    @property
    def output(self) -> str:
        """What it has printed, on both outputs."""
        return self.log.read_text()

    def wait(self) -> int:
        """Wait for its end; give its exit code."""
        return self.popen.wait(DEADLINE_S)


def environment(settings: KafkaSettings, **given: object) -> dict[str, str]:
    """Give the variables that make these settings, and some more."""
    values = {**settings.model_dump(), **given}
    return {
        name.upper(): value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in values.items()
        if value is not None
    }


class Programs:
    """Starts programs; ends them all at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.started: list[Process] = []

    def start(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        fds: tuple[int, ...] = (),
        anew: bool = False,
    ) -> Process:
        """Start a program; `-m` alone stands for this Python.

        The parts are forked from one that has loaded their libraries, unless asked for `anew`.
        """
        log = self._directory / f"{len(self.started)}.log"
        whole = {**os.environ, **(env or {})}
        with log.open("wb") as file:
            if argv[0] == "-m" and argv[1] in forked.PARTS and not anew:
                popen = forked.start(*argv[1:], env=whole, fds=fds, output=file.fileno())
            else:
                popen = subprocess.Popen(
                    (sys.executable, *argv) if argv[0] == "-m" else argv,
                    env=whole,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    pass_fds=fds,
                )
        self.started.append(Process(popen, log))
        return self.started[-1]

    def end(self) -> None:
        """End them all."""
        for each in self.started:
            each.popen.terminate()
        for each in self.started:
            with suppress(subprocess.TimeoutExpired):
                each.popen.wait(10)
            each.popen.kill()
            each.popen.wait()


@contextmanager
def programs(directory: Path) -> Iterator[Programs]:
    """Give a starter of programs."""
    made = Programs(directory)
    try:
        yield made
    finally:
        made.end()


def until(condition: Callable[[], object], what: Callable[[], str] = str) -> None:
    """Wait until a condition holds; `what` tells about a failure."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def is_ready(client: httpx.Client) -> bool:
    """Tell whether a gateway is ready."""
    with suppress(httpx.TransportError):
        return client.get("/readyz").is_success
    return False
