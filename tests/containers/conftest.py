"""The compose files run by a real engine, and what checks them from outside.

FRAUDSTREAM_COMPOSE and FRAUDSTREAM_ENGINE name other commands than `docker compose` and `docker`.
"""

import json
import os
import re
import shlex
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

ROOT = Path(__file__).parents[2]
COMPOSE = shlex.split(os.environ.get("FRAUDSTREAM_COMPOSE", "docker compose"))
ENGINE = os.environ.get("FRAUDSTREAM_ENGINE", "docker")
ONE_BROKER = "compose/docker-compose.kafka.yml"
THREE_BROKERS = "compose/docker-compose.kafka-3.yml"
PARTS = "compose/docker-compose.yml"
IMAGE = "fraudstream:local"
PROMETHEUS = "docker.io/prom/prometheus:v3.5.0"
NETWORK = "kafka-network"
API_PORT, PROMETHEUS_PORT, KAFKA_PORT = 38080, 38090, 38092
URL = f"http://127.0.0.1:{API_PORT}"
TOPICS = {
    "transactions": "queueing.transactions",
    "legit": "streaming.transactions.legit",
    "fraud": "streaming.transactions.fraud",
}
MOST_DETECTORS = 3
DEADLINE_S = 120.0


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

    one_broker = ONE_BROKER
    three_brokers = THREE_BROKERS
    url = URL
    prometheus = f"http://127.0.0.1:{PROMETHEUS_PORT}"
    topics = TOPICS
    environment: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str, file: str = PARTS, check: bool = True) -> str:
        """Run docker compose on a file; give its standard output."""
        done = subprocess.run(
            [*COMPOSE, "-f", file, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "API_PORT": str(API_PORT),
                "PROMETHEUS_PORT": str(PROMETHEUS_PORT),
                "KAFKA_PORT": str(KAFKA_PORT),
                "KAFKA_PORT_2": str(KAFKA_PORT + 1),
                "KAFKA_PORT_3": str(KAFKA_PORT + 2),
                **self.environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def up(self, *services: str, file: str = PARTS, options: tuple[str, ...] = ()) -> None:
        """Bring services up in the background (default: all)."""
        self.compose("up", "-d", "--no-build", *options, *services, file=file)

    def until(self, condition: Callable[[], object], what: str, seconds: float = 120) -> float:
        """Wait for a condition, with a deadline; give the seconds that it took."""
        return until(condition, what, seconds)

    def wait_ready(self) -> float:
        """Wait until the gateway takes transactions and its streams follow; give the seconds."""
        return until(ready, "the gateway is ready")

    def engine(self, *arguments: str) -> str:
        """Run the container engine; give its standard output."""
        return engine(*arguments)

    def kill(self, service: str) -> None:
        """Kill a service's first container at once, as a machine's death would."""
        engine("kill", "--signal", "KILL", self.containers(service)[0])

    def start(self, service: str) -> None:
        """Start it again, on the data that it left."""
        engine("start", self.containers(service)[0])

    def log(self) -> "Log":
        """Read all that lies in the topics."""
        return Log.read()

    def settle(self) -> "Log":
        """Wait until every transaction has its verdict; give what lies in the topics then."""
        until(lambda: not Log.read().lost, "every transaction has a verdict")
        return Log.read()

    def detectors_at_work(self) -> int:
        """Count the members of the detectors' group that have partitions."""
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{KAFKA_PORT}"})
        groups = admin.describe_consumer_groups(["fraudstream-detector"], request_timeout=20)
        members = groups["fraudstream-detector"].result().members
        return sum(bool(member.assignment.topic_partitions) for member in members)

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


@pytest.fixture(scope="session")
def image() -> str:
    """The image of this checkout, built."""
    Stack().compose("build", "topics")
    return IMAGE


@pytest.fixture(scope="session")
def prometheus_image() -> None:
    """Prometheus as the compose file names it; where no registry is reached, Debian's package."""
    if _succeeds("image", "inspect", PROMETHEUS) or _succeeds("pull", "-q", PROMETHEUS):
        return
    containerfile = Path(__file__).parent / "prometheus.Dockerfile"
    engine("build", "--network", "host", "-t", PROMETHEUS, "-f", str(containerfile), str(ROOT))


def _succeeds(*arguments: str) -> bool:
    return subprocess.run([ENGINE, *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def stack(image: str) -> Iterator[Stack]:
    """A project with nothing up yet; everything of it is removed at the end."""
    del image
    made = Stack()
    made.down()
    assert made.leftovers() == []
    yield made
    made.down()


@dataclass
class Witness:
    """A client that sends all the time and notes what it was promised."""

    accepted: set[str] = field(default_factory=set)
    seconds: list[tuple[float, float]] = field(default_factory=list)
    """When each accepted request began, and how long its answer took."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, threads: int = 4) -> None:
        """Send from now on, each thread one transaction after another."""
        for _ in range(threads):
            self._threads.append(threading.Thread(target=self._send, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        with httpx.Client(base_url=URL, timeout=30) as client:
            while not self._stop.is_set():
                self._send_one(client, f"witness-{uuid.uuid4()}")
                self._stop.wait(0.02)

    def _send_one(self, client: httpx.Client, name: str) -> None:
        """Send one until it is accepted, as the README tells clients to: with the same id."""
        body = {"transaction_id": name, "source": name[-2:], "target": "b", "amount": "901"}
        began = time.time()
        while not self._stop.is_set():
            try:
                answer = client.post("/transactions", json=body)
            except httpx.TransportError:
                self._stop.wait(0.2)
                continue
            if answer.status_code == 202:
                self.accepted.add(name)
                self.seconds.append((began, time.time() - began))
                return
            assert answer.json()["retriable"], answer.text
            self._stop.wait(0.2)


@dataclass
class Log:
    """All that lies in the topics, read with a client of another make than the product's."""

    transactions: Counter[str]
    verdicts: Counter[str]

    @classmethod
    def read(cls, bootstrap: str = f"127.0.0.1:{KAFKA_PORT}") -> "Log":
        """Read everything committed, from the beginning to where the ends are now."""
        ids = {name: _ids(bootstrap, topic) for name, topic in TOPICS.items()}
        return cls(ids["transactions"], ids["legit"] + ids["fraud"])

    @property
    def lost(self) -> set[str]:
        """Transactions without a verdict."""
        return set(self.transactions) - set(self.verdicts)

    @property
    def doubled(self) -> set[str]:
        """Transactions with more than one verdict."""
        return {name for name, times in self.verdicts.items() if times > 1}


def _ids(bootstrap: str, topic: str) -> Counter[str]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "checks",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
    )
    found: Counter[str] = Counter()
    try:
        count = len(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1]
            for p in range(count)
        }
        consumer.assign([TopicPartition(topic, p, 0) for p in range(count)])
        deadline = time.monotonic() + DEADLINE_S
        while any(at.offset < ends[at.partition] for at in _positions(consumer, topic, ends)):
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
            for message in consumer.consume(5_000, timeout=0.5):
                assert message.error() is None, message.error()
                found[json.loads(message.value())["transaction_id"]] += 1
    finally:
        consumer.close()
    return found


def _positions(consumer: Consumer, topic: str, ends: dict[int, int]) -> list[Any]:
    # Before the first record a position is unknown, a negative number: that is right for an empty
    # partition only.
    places = consumer.position([TopicPartition(topic, p) for p in ends])
    for place in places:
        if place.offset < 0 and not ends[place.partition]:
            place.offset = 0
    return list(places)


@pytest.fixture
def witness() -> Iterator[Witness]:
    """A client that has not begun to send."""
    made = Witness()
    yield made
    made.stop()
