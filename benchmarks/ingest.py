"""The ingest path: POST to acknowledged in Kafka, beside bare uvicorn and raw aiokafka.

Aims, each in one run beside its reference: one record a request, 32 connections, one process:
>= 0.45 of bare uvicorn's rate. 1,000 records a request: >= 0.6 of raw `send_batch`.
With an API key: >= 0.9 of the rate without.
At twice the rate that it can take: goodput >= 0.9 of the peak, refusals fast, memory bounded.
`Prefer: wait` at 200/s beside 1,000/s: p50 <= 15 ms, p99 <= 60 ms to the verdict.
"""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from api.access import keyfile
from api.listener import bind
from benchmarks._posts import Plan, transaction
from compose import broker, jars
from wire import kafka, topics
from wire.posted import accept
from wire.settings import TopicSettings

ROUNDS = 5
"""Odd, so that a median is one that was measured."""
SECONDS = 3.0
KEY_ROUNDS = 7
NO_LIMIT = 1_000_000_000
KEY_SECONDS = 2.0
START_TIMEOUT_S = 30
FEW, MANY = 64, 2_048
"""Connections."""
POLITE = 100
"""Connections whose clients come once a second, as Retry-After asks."""
OFFERED = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the rate from few connections, in the search for the peak from many."""


async def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        async with cluster(Path(folder)) as settings:
            await one_record(settings)
            await with_a_key(settings, Path(folder))
            await many_records(settings)
            await overload(settings)
        async with cluster(Path(folder) / "verdicts") as settings:  # no back-log to judge first
            await verdicts(settings)
    return 0


@dataclass
class Turns:
    """Rates measured turn about with a reference, which comes first, between, and last."""

    reference: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def note(self, run: dict[str, Any], records: int = 1) -> None:
        """Note one of our runs."""
        self.ours.append(rate(run) * records)
        self.p99_ms.append(run["latencies_ms"]["202"]["p99"])

    @property
    def share(self) -> float:
        """The median of ours, each by the mean of the reference just before and just after."""
        around = itertools.pairwise(self.reference)
        shares = [own * 2 / sum(pair) for own, pair in zip(self.ours, around, strict=True)]
        return statistics.median(shares)

    def __str__(self) -> str:
        own, other, p99 = map(statistics.median, (self.ours, self.reference, self.p99_ms))
        return f"{own:,.0f}/s, reference {other:,.0f}/s, share {self.share:.2f}; p99 {p99:.1f} ms"


async def one_record(settings: TopicSettings) -> None:
    """Compare single objects with bare uvicorn: one gateway process, then two.

    Clients repeat the heads of their requests; one that numbers them has each parsed.
    """
    for processes, numbered in ((1, False), (1, True), (2, False)):
        # One after the other: idle gateways would take their share.
        with bare() as reference, gateway(settings, processes) as (port, _):
            at_bare, at_ours = (
                Plan(each, SECONDS, 32, numbered=numbered) for each in (reference, port)
            )
            for each in (at_bare, at_ours):  # warm up
                await post(each)
            turns = Turns([rate(await post(at_bare))])
            for _ in range(ROUNDS):
                turns.note(await post(at_ours))
                turns.reference.append(rate(await post(at_bare)))
        heads = "no head twice" if numbered else "heads that repeat"
        print(f"one record, 32 connections, {processes} process(es), {heads}: {turns} "
              "(aim 0.45 of bare uvicorn with one, heads that repeat)")  # fmt: skip


async def with_a_key(settings: TopicSettings, folder: Path) -> None:
    """Compare gateways that ask nobody and that ask for an API key, turn about.

    Beside the rates their processor time: that holds on a busy machine, too.
    """
    file = folder / "keys.json"
    key, kept = keyfile.make("bench", ["transactions:write"], None, keyfile.utc_now())
    with keyfile.changing(file) as keys:
        keys.append(kept)
    with (
        gateway(settings) as without,
        gateway(settings, api_keys_file=file, limit_failure_burst=NO_LIMIT) as asking,
    ):
        sides = {
            "without": (without, "", "202"),
            "an API key": (asking, key, "202"),
            "a wrong one": (asking, key[:-1] + "!", "401"),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        costs: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(KEY_ROUNDS + 1):
            for name, ((port, process), credential, status) in sides.items():
                before = processor_s(process)
                run = await post(Plan(port, KEY_SECONDS, 32, credential=credential))
                answered = run["statuses"][status]
                if number:  # the first is to warm up
                    rates[name].append(answered / run["seconds"])
                    costs[name].append((processor_s(process) - before) / answered * 1e6)
    for what, unit, made in (("rate", "/s", rates), ("processor time", "us", costs)):
        shares = [of / base for of, base in zip(made["an API key"], made["without"], strict=True)]
        medians = {name: round(statistics.median(each)) for name, each in made.items()}
        print(f"one record, 32 connections, {what} by credential: {medians} {unit}; with a key "
              f"{statistics.median(shares):.3f} of without (rounds: "
              f"{[round(share, 2) for share in shares]}; aim for the rate: 0.9)")  # fmt: skip


def processor_s(process: "subprocess.Popen[bytes]") -> float:
    """Give the processor time that a process has had, in seconds."""
    spent = psutil.Process(process.pid).cpu_times()
    return float(spent.user + spent.system)


async def many_records(settings: TopicSettings) -> None:
    """Compare NDJSON with raw aiokafka."""
    with gateway(settings) as (port, _):
        await post(Plan(port, 2, 4, records=1000))
        turns = Turns([await send_raw(settings)])
        for _ in range(ROUNDS):
            turns.note(await post(Plan(port, SECONDS, 4, records=1000)), 1000)
            turns.reference.append(await send_raw(settings))
    print(f"NDJSON, 1,000 records a request: {turns} (aim 0.6 of raw send_batch)")


async def overload(settings: TopicSettings) -> None:
    """Offer twice the peak, turn about with the peak itself, from the same connections.

    What many connections cost alone is no cost of overload (bare uvicorn takes half as much again
    for a request on 1,000 connections as on 32), and the generator has its share of the processors
    both times. The rate from few connections is told beside it.
    """
    with gateway(settings) as (port, process):
        await post(Plan(port, 2, 32))
        few = rate(await post(Plan(port, SECONDS, FEW)))
        peaks = {
            offered: rate(await post(Plan(port, SECONDS, MANY, rate=offered)))
            for offered in (int(few * share) for share in OFFERED)
        }
        best, peak = max(peaks.items(), key=itemgetter(1))
        turns = Turns([peak])
        for _ in range(ROUNDS):
            pushed, polite = await asyncio.gather(
                post(Plan(port, SECONDS, MANY, rate=int(2 * peak))),
                post(Plan(port, SECONDS, POLITE, rate=POLITE)),
            )
            turns.note(pushed)
            turns.reference.append(rate(await post(Plan(port, SECONDS, MANY, rate=best))))
        memory = psutil.Process(process.pid).memory_info().rss / 1e6
    print(f"twice the peak offered from {MANY:,} connections: {turns} (aim 0.9; {FEW} connections, "
          f"one request each: {few:,.0f}/s); answers {pushed['statuses']}; since the sending: to "
          f"clients that wait a second {polite['statuses']} {polite['answer_ms']}, to those that "
          f"ask again at once, and so are let rest, {pushed['answer_ms']}; "
          f"{memory:.0f} MB")  # fmt: skip


async def verdicts(settings: TopicSettings) -> None:
    """Wait for verdicts at 200/s beside 1,000/s, with nothing else in the topics."""
    with gateway(settings) as (port, _), part("detector", settings):
        for _ in range(START_TIMEOUT_S):  # until the detector speaks
            if "200" in (await post(Plan(port, 1, 1, wait=1)))["statuses"]:
                break
        else:
            raise TimeoutError("the detector did not speak")
        await post(Plan(port, 5, 32, rate=1000))
        _, waited = await asyncio.gather(
            post(Plan(port, 10, 64, rate=1000)), post(Plan(port, 10, 64, rate=200, wait=10))
        )
    print(f"Prefer: wait, 200/s beside 1,000/s: {waited['statuses']} {waited['latencies_ms']} "
          "(aim p50 15, p99 60 ms)")  # fmt: skip


async def post(plan: Plan) -> dict[str, Any]:
    """Drive POSTs from another process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks._posts"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate(json.dumps(plan.__dict__).encode())
    result: dict[str, Any] = json.loads(output)
    return result


def rate(run: dict[str, Any]) -> float:
    """Give the accepted requests a second."""
    return float(run["statuses"].get("202", 0) / run["seconds"])


async def send_raw(settings: TopicSettings) -> float:
    """Send records as fast as aiokafka can, filled straight into its batches; give records/s."""
    producer = await kafka.start(lambda: kafka.producer(settings))
    records = [accept(transaction().encode()) for _ in range(1000)]
    sent = 0
    until = (began := time.perf_counter()) + SECONDS

    async def fill(partition: int) -> None:
        nonlocal sent
        while time.perf_counter() < until:
            batch = producer.create_batch()
            for record in records:
                if batch.append(timestamp=None, key=record.key, value=record.value) is None:
                    break
            done = await producer.send_batch(
                batch, settings.transactions_topic, partition=partition
            )
            await done
            sent += batch.record_count()

    await asyncio.gather(*(fill(n % settings.partitions) for n in range(2 * settings.partitions)))
    took = time.perf_counter() - began
    await kafka.close(producer)
    return sent / took


@contextlib.contextmanager
def bare() -> Iterator[int]:
    """Run bare uvicorn; give its port."""
    with bind("127.0.0.1", 0) as listener:
        port = int(listener.getsockname()[1])
    # Not with --fd: uvicorn takes that for a UNIX socket, and Nagle's algorithm stays on.
    argv = ["-m", "uvicorn", "benchmarks._bare:app", "--port", str(port), "--no-proxy-headers"]
    fast = ["--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--ws", "none"]
    quiet = ["--no-access-log", "--log-level", "warning", "--no-server-header"]
    process = subprocess.Popen([sys.executable, *argv, *fast, *quiet])
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_listening(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def gateway(
    settings: TopicSettings, processes: int = 1, **given: object
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run a gateway of some processes on one socket; give its port and its first process."""
    with bind("127.0.0.1", 0) as listener, contextlib.ExitStack() as stack:
        arguments = ["--api-fd", str(listener.fileno())]
        started = [
            stack.enter_context(part("api", settings, arguments, [listener.fileno()], **given))
            for _ in range(processes)
        ]
        port = listener.getsockname()[1]
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready(port) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(processes - 1)  # only one of them has told
        yield port, started[0]


@contextlib.contextmanager
def part(
    name: str,
    settings: TopicSettings,
    arguments: list[str] | None = None,
    pass_fds: list[int] | None = None,
    **given: object,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of the product's parts."""
    variables = {key.upper(): str(value) for key, value in given.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", name, *(arguments or [])],
        env=os.environ
        | {"KAFKA_BROKER_URL": settings.kafka_broker_url, "LOG_LEVEL": "error"}
        | {"AUDIT_LOG": os.devnull}
        | variables,
        pass_fds=pass_fds or [],
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def is_listening(port: int) -> bool:
    """Try to connect."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def is_ready(port: int) -> bool:
    """Ask a gateway whether it is ready."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (URLError, OSError):
        return False


@contextlib.asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[TopicSettings]:
    """Run a broker with the topics."""
    nodes = broker.prepare(folder, jars.install(), port=0)
    address = broker.bootstrap(nodes)
    process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        nodes[0].argv, env=dict(nodes[0].env), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        await broker.answers(address, brokers=1, patience=START_TIMEOUT_S)
        settings = TopicSettings(kafka_broker_url=address)
        await topics.ensure(settings)
        yield settings
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
