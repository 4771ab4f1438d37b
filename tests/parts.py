"""Parts of the product for tests: gateways of several processes and detectors, on one Kafka."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from api import listener
from tests import forked
from tests.trust import TRUST
from wire.settings import TopicSettings

DEADLINE_S = 30.0


@dataclass
class Parts:
    """Processes of the parts, on one set of topics."""

    settings: TopicSettings
    held: contextlib.ExitStack
    running: list[forked.Forked | subprocess.Popen[bytes]] = field(default_factory=list)

    def socket(self) -> socket.socket:
        """Make a listening socket that processes inherit."""
        return self.held.enter_context(contextlib.closing(listener.bind("127.0.0.1", 0)))

    def start(
        self, module: str, *arguments: str, fds: tuple[int, ...] = (), **settings: object
    ) -> None:
        """Run a part, with these settings by environment."""
        names = ("kafka_broker_url", "transactions_topic", "legit_topic", "fraud_topic")
        given = {
            name.upper(): str(getattr(self.settings, name))
            for name in (*names, "dead_letter_topic")
        }
        given |= {name.upper(): str(value) for name, value in settings.items()}
        environment = {**os.environ, **given, "DETECTOR_GROUP": self.settings.fraud_topic}
        self.running.append(forked.start(module, *arguments, env=environment, fds=fds))

    def gateway(self, workers: int, **settings: object) -> tuple[str, list[str]]:
        """Start a gateway of several processes; give its address, and each one's own."""
        shared, own = self.socket(), [self.socket() for _ in range(workers)]
        places = ",".join(address(each) for each in own)
        for number, alone in enumerate(own, 1):
            fds = (shared.fileno(), alone.fileno())
            arguments = ["--api-fd", str(fds[0]), "--api-worker-fd", str(fds[1])]
            arguments += ["--api-worker", str(number), "--api-workers-at", places]
            self.start("api", *arguments, fds=fds, **settings)
        urls = [f"http://{address(each)}" for each in own]
        for url in urls:
            until(lambda url=url: httpx.get(f"{url}/readyz", verify=TRUST).status_code == 200)
        return f"http://{address(shared)}", urls

    def detector(self, *options: str) -> str:
        """Start a detector; give the address of its metrics."""
        with listener.bind("127.0.0.1", 0) as sock:
            port = sock.getsockname()[1]
        self.start("detector", "--metrics-port", str(port), *options)
        return f"http://127.0.0.1:{port}"


def address(sock: socket.socket) -> str:
    """Give a socket's address as HOST:PORT."""
    host, port = sock.getsockname()
    return f"{host}:{port}"


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline; a connection refused counts as not yet."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)
