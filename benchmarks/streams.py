"""The streams: many clients, many events, idle clients, clients that never read.

Aims: 2,000 clients x 100 events/s all delivered, p99 <= 100 ms from hand-over to Kafka to the
client; 1,000 clients x 1,000 events/s >= 600,000 events/s delivered (aim 900,000); 5,000 idle
clients <= 40 KB each; 10 clients that never read change nothing for the others.
"""

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.request import urlopen

from aiokafka import AIOKafkaProducer

from api.listener import bind
from compose import broker, jars
from wire import kafka, messages, topics
from wire.messages import Reason, Verdict
from wire.settings import TopicSettings

PARTITIONS = 4
TICK_S = 0.02
"""Between two transactions of the producer; a detector paces its own too."""
SETTLE_S = 3.0
OPEN_FILES = 20_000


@dataclass(frozen=True)
class Load:
    """One scenario."""

    clients: int
    rate: int
    seconds: float
    stuck: int = 0


async def main() -> int:
    """Measure and print."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, OPEN_FILES), hard), hard))
    with tempfile.TemporaryDirectory() as folder:
        async with cluster(Path(folder)) as settings:
            await scenarios(settings)
    return 0


async def scenarios(settings: TopicSettings) -> None:
    """Run all scenarios, each on a gateway of its own."""
    only = os.environ.get("STREAMS_BENCH", "latency,reference,throughput,stuck,idle").split(",")
    if "latency" in only:
        report("2,000 clients x 100/s (aim: p99 100 ms)", await run(settings, Load(2_000, 100, 20)))
    if "reference" in only:
        seen = await run(settings, Load(2_000, 100, 20), "benchmarks._plain_hub")
        report("the same, plain sse-starlette hub", seen)
    if "throughput" in only:
        report(
            "1,000 clients x 1,000/s (aim: 900,000/s)", await run(settings, Load(1_000, 1_000, 15))
        )
    if "stuck" in only:
        report("500 clients x 100/s", await run(settings, Load(500, 100, 15)))
        report("the same with 10 stuck", await run(settings, Load(510, 100, 15, stuck=10)))
    if "idle" in only:
        await idle(settings, 5_000)


def report(name: str, seen: dict[str, float]) -> None:
    """Print one scenario's figures."""
    print(
        f"{name}: {seen['delivered']:.2%} delivered, {seen['per_second']:,.0f} events/s"
        f" ({seen['mb_per_second']:.0f} MB/s), p50 {seen['p50']:.1f} ms, p99 {seen['p99']:.1f} ms,"
        f" max {seen['max']:.0f} ms, {seen['closed']:.0f} disconnected,"
        f" {seen['reads']:,.0f} reads/s, gateway {seen['cpu']:.0%} CPU, {seen['rss']:.0f} MB",
        flush=True,
    )


async def run(settings: TopicSettings, load: Load, command: str = "api") -> dict[str, float]:
    """Offer one load, and count what arrives."""
    with gateway(settings, command) as (process, port):
        await ready(port)
        with readers(port, "/stream/legit", load.clients, load.stuck) as clients:
            await asyncio.to_thread(clients.stdout.readline)
            await asyncio.sleep(1)
            cpu = cpu_seconds(process.pid)
            began = time.monotonic()
            sent = await publish(settings, load.rate, load.seconds)
            took = time.monotonic() - began
            await asyncio.sleep(SETTLE_S)
            cpu = cpu_seconds(process.pid) - cpu
            rss = resident(process.pid) / 1e6
            clients.stdin.close()
            seen = json.loads(await asyncio.to_thread(clients.stdout.readline))
    delays = seen["delays_us"]
    hearing = load.clients - load.stuck
    return {
        "delivered": seen["events"] / (sent * hearing),
        "per_second": seen["events"] / took,
        "mb_per_second": seen["bytes"] / took / 1e6,
        "p50": delays[len(delays) // 2] / 1000,
        "p99": delays[len(delays) * 99 // 100] / 1000,
        "max": delays[-1] / 1000,
        "closed": seen["closed"],
        "reads": seen["reads"] / took,
        "cpu": cpu / took,
        "rss": rss,
    }


async def idle(settings: TopicSettings, count: int) -> None:
    """Open connections on a silent stream, and see what each costs."""
    with gateway(settings) as (process, port):
        await ready(port)
        with readers(port, "/stream/fraud", 100, 0) as first:
            await asyncio.to_thread(first.stdout.readline)
            before = resident(process.pid)
            with readers(port, "/stream/fraud", count, 0) as clients:
                await asyncio.to_thread(clients.stdout.readline)
                await asyncio.sleep(1)
                each = (resident(process.pid) - before) / count
                cpu = cpu_seconds(process.pid)
                await asyncio.sleep(5)
                cpu = (cpu_seconds(process.pid) - cpu) / 5
    print(
        f"{count:,} idle clients (aim: 40 KB): {each / 1000:.1f} KB each, gateway {cpu:.1%} CPU",
        flush=True,
    )


async def publish(settings: TopicSettings, rate: int, seconds: float) -> int:
    """Write verdicts by transactions at a rate; give how many."""
    producer: AIOKafkaProducer = await kafka.start(
        lambda: kafka.producer(settings, transactional_id=uuid.uuid4().hex, retry_backoff_ms=5)
    )
    sent = 0
    began = time.monotonic()
    try:
        while (now := time.monotonic() - began) < seconds:
            if due := int(rate * min(now + TICK_S, seconds)) - sent:
                async with producer.transaction():
                    for _ in range(due):
                        await producer.send(
                            settings.legit_topic, verdict(sent), partition=sent % PARTITIONS
                        )
                        sent += 1
            await asyncio.sleep(TICK_S)
    finally:
        await kafka.close(producer)
    return sent


def verdict(number: int) -> bytes:
    """Make a full-size verdict that carries the time."""
    now = datetime.now(UTC)
    return messages.encode(
        Verdict(
            transaction_id=f"{time.time_ns() // 1000:016d}-{number:08d}",
            source=f"account-{number % 1000:06d}",
            target=f"account-{number * 7 % 1000:06d}",
            amount=Decimal("900.01"),
            currency="EUR",
            occurred_at=now,
            decision="legit",
            score=12,
            reasons=(Reason("velocity", "3", "7 transactions within 60 s, at most 10 are usual"),),
            rules_version="2026-11-23.1",
            received_at=now,
            decided_at=now,
        )
    )


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[TopicSettings]:
    """Run a broker with topics of its own."""
    nodes = broker.prepare(folder, jars.install(), port=0)
    address = broker.bootstrap(nodes)
    process = subprocess.Popen(  # noqa: ASYNC220 - it is not waited for
        nodes[0].argv,
        env={**os.environ, **nodes[0].env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        await broker.answers(address, patience=30)
        settings = TopicSettings(kafka_broker_url=address, partitions=PARTITIONS)
        await topics.ensure(settings)
        yield settings
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def gateway(
    settings: TopicSettings, command: str = "api"
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a gateway process, or the reference."""
    option = ["--api-fd"] if command == "api" else []
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        os.set_inheritable(listener.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, "-m", command, *option, str(listener.fileno())],
            env={
                **os.environ,
                "KAFKA_BROKER_URL": settings.kafka_broker_url,
                "LEGIT_TOPIC": settings.legit_topic,
                "LOG_LEVEL": "error",
            },
            pass_fds=[listener.fileno()],
        )
        try:
            yield process, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


@contextlib.contextmanager
def readers(port: int, path: str, clients: int, stuck: int) -> Iterator[subprocess.Popen[str]]:
    """Run a process with many clients."""
    order = {"host": "127.0.0.1", "port": port, "path": path, "clients": clients, "stuck": stuck}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._readers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write(json.dumps(order | {"sampled": 16}) + "\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def ready(port: int) -> None:
    """Wait until the gateway follows."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            answer = await asyncio.to_thread(urlopen, f"http://127.0.0.1:{port}/status.json")
            if json.load(answer)["streams"]["all"]["following"]:
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("the gateway does not follow")


def resident(pid: int) -> int:
    """Give a process's resident bytes."""
    status = Path(f"/proc/{pid}/statm").read_text()
    return int(status.split()[1]) * resource.getpagesize()


def cpu_seconds(pid: int) -> float:
    """Give the CPU time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
