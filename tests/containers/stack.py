"""The compose files run by a real engine, on ports of their own.

FRAUDSTREAM_COMPOSE and FRAUDSTREAM_ENGINE name other commands than `docker compose` and `docker`.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from tests.containers.log import Log

ROOT = Path(__file__).parents[2]
COMPOSE = shlex.split(os.environ.get("FRAUDSTREAM_COMPOSE", "docker compose"))
ENGINE = os.environ.get("FRAUDSTREAM_ENGINE", "docker")
ONE_BROKER = "compose/docker-compose.kafka.yml"
THREE_BROKERS = "compose/docker-compose.kafka-3.yml"
PARTS = "compose/docker-compose.yml"
NETWORK = "kafka-network"
# Below 32768, where a machine's outgoing connections get their ports from.
API_PORT, PROMETHEUS_PORT, KAFKA_PORT = 18080, 18090, 18092
URL = f"http://127.0.0.1:{API_PORT}"
PROMETHEUS_URL = f"http://127.0.0.1:{PROMETHEUS_PORT}"
BOOTSTRAP = f"127.0.0.1:{KAFKA_PORT}"
GROUP = "fraudstream-detector"
MOST_DETECTORS = 3
DEADLINE_S = 240.0
LOG_ERRORS = 3  # syslog's number: a client that comes and goes tells of that otherwise
NO_COORDINATOR_YET = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_S) -> float:
    """Wait for a condition, with a deadline; give the seconds that it took."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except httpx.TransportError:
            pass  # not yet
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def ready() -> bool:
    """Tell whether the gateway takes transactions and its streams follow."""
    return httpx.get(f"{URL}/readyz").status_code == 200


@dataclass
class Stack:
    """The compose project of this checkout, on ports of its own."""

    environment: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str, file: str = PARTS, check: bool = True) -> str:
        """Run docker compose on a file; give its standard output."""
        return self._run([*COMPOSE, "-f", file, *arguments], check=check)

    def make(self, target: str) -> str:
        """Make a target of the Makefile; give its standard output."""
        return self._run(self._making(target))

    def follow(self, text: str) -> bool:
        """Follow `make docker-logs` until a line has this text; tell whether one had."""
        following = subprocess.Popen(
            self._making("docker-logs"),
            cwd=ROOT,
            env=self._variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        end = threading.Timer(DEADLINE_S, os.killpg, (following.pid, signal.SIGTERM))
        end.start()
        with following:
            assert following.stdout is not None
            found = any(text in line for line in following.stdout)
            os.killpg(following.pid, signal.SIGTERM)
        end.cancel()
        return found

    def _making(self, target: str) -> list[str]:
        engines = (f"DOCKER={ENGINE}", f"DOCKER_COMPOSE={shlex.join(COMPOSE)}")
        return ["make", "--no-print-directory", target, *engines]

    def _variables(self) -> dict[str, str]:
        ports = {
            "API_PORT": API_PORT,
            "PROMETHEUS_PORT": PROMETHEUS_PORT,
            "KAFKA_PORT": KAFKA_PORT,
            "KAFKA_PORT_2": KAFKA_PORT + 1,
            "KAFKA_PORT_3": KAFKA_PORT + 2,
        }
        return {
            **os.environ,
            **{name: str(port) for name, port in ports.items()},
            **self.environment,
        }

    def _run(self, command: list[str], *, check: bool = True) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._variables(), capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def up(self, *services: str, file: str = PARTS, options: tuple[str, ...] = ()) -> None:
        """Bring services up in the background (default: all)."""
        self.compose("up", "-d", "--no-build", *options, *services, file=file)

    def wait_ready(self) -> float:
        """Wait until the gateway takes transactions and its streams follow; give the seconds."""
        return until(ready, "the gateway is ready")

    def kill(self, service: str) -> None:
        """Kill a service's first container at once, as a machine's death would."""
        engine("kill", "--signal", "KILL", self.containers(service)[0])

    def start(self, service: str) -> None:
        """Start it again, on the data that it left."""
        engine("start", self.containers(service)[0])

    def keep(self, folder: Path) -> None:
        """Keep what its containers have said, and the broker's data, to look into a failure."""
        for name in self.containers():
            with (folder / f"{name}.log").open("wb") as log:
                argv = (ENGINE, "logs", "--timestamps", name)
                subprocess.run(argv, stdout=log, stderr=log, check=True)
        engine("cp", f"{self.containers('broker')[0]}:/var/lib/kafka/data", str(folder))

    def settle(self) -> Log:
        """Wait until every transaction has its verdict; give what lies in the topics then."""
        until(lambda: not Log.read(BOOTSTRAP).lost, "every transaction has a verdict")
        return Log.read(BOOTSTRAP)

    def detectors_at_work(self) -> int:
        """Count the members of the detectors' group that have partitions."""
        admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": LOG_ERRORS})
        groups = admin.describe_consumer_groups([GROUP], request_timeout=20)
        try:
            members = groups[GROUP].result().members
        except KafkaException as error:
            if error.args[0].code() not in NO_COORDINATOR_YET:
                raise
            return 0
        return sum(bool(member.assignment.topic_partitions) for member in members)

    def inspect(self, service: str) -> dict[str, Any]:
        """Give what the engine tells of a service's first container."""
        (found,) = json.loads(engine("inspect", self.containers(service)[0]))
        return dict(found)

    def seconds_up(self, service: str) -> float:
        """Give how long ago a service's first container was started."""
        began = datetime.fromisoformat(self.inspect(service)["State"]["StartedAt"])
        return time.time() - began.timestamp()

    def containers(self, service: str = "") -> list[str]:
        """Give the names of the project's containers, running or not."""
        names = engine("ps", "-a", "--format", "{{.Names}}").split()
        # docker compose joins the parts of a name with dashes, podman-compose with underscores.
        pattern = rf"fraudstream[-_]{service or '.+'}[-_][0-9]+"
        return sorted(name for name in names if re.fullmatch(pattern, name))

    def down(self) -> None:
        """Take everything down, volumes too."""
        # podman-compose takes down so many detectors only as it is told that there are.
        everything = Stack({"DETECTORS": str(MOST_DETECTORS)})
        everything.compose("--profile", "observability", "down", "-v", check=False)
        for file in (ONE_BROKER, THREE_BROKERS):
            if self.containers():
                everything.compose("down", "-v", file=file, check=False)

    def leftovers(self) -> list[str]:
        """Name what is left of the project: containers, volumes, networks."""
        volumes = engine("volume", "ls", "--format", "{{.Name}}").split()
        networks = engine("network", "ls", "--format", "{{.Name}}").split()
        return [
            *self.containers(),
            *(name for name in volumes if name.startswith("fraudstream_")),
            *(name for name in networks if name == NETWORK),
        ]


def engine(*arguments: str) -> str:
    """Run the container engine; give its standard output."""
    done = subprocess.run([ENGINE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()
