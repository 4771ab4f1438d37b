"""The detector on a real Kafka: throughput, latency, memory and the rebuilding of its state.

    python -m benchmarks.detector [latency|throughput|rebuild|memory ...]

KAFKA_BROKER_URL names a broker to use; without it, an embedded one is started. The load and the
measuring client are librdkafka (confluent-kafka), so that they take little from the cores that
everything shares. BENCH_MINUTES sets how long `memory` goes on (1).

Where there is a reference, it and what is measured take turns, and what is printed are medians of
the rounds: so what else the machine does in the meantime falls on both.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil

from benchmarks._takers import detector, plain_process
from benchmarks._topics import PARTITIONS, Offer, Watch, fill, progress, settings, settle_all
from benchmarks._yardstick import Steps, alone
from compose import broker, jars
from wire import logs, topics
from wire.settings import KafkaSettings, TopicSettings

PATIENCE_S = 120
ROUNDS = 3


class Latency(NamedTuple):
    """How long transactions take from topic to topic, in milliseconds."""

    p50: float
    p90: float
    p99: float
    most: float
    cores: float
    """CPU time of the process that takes them over, in cores."""


def latency(address: str, seconds: float = 10) -> None:
    """Topic to topic at 1000 transactions a second, exactly once, read_committed.

    The aims were set where one small transaction of aiokafka's takes 4.5 ms alone. So beside
    milliseconds they are told as multiples of what that takes in the same run: 3.3 and 11 of it.
    """
    runners = {"detector": detector, "plain copying loop": plain_process}
    found: dict[str, list[Latency]] = {name: [] for name in runners}
    yardsticks: list[Steps] = []
    for _ in range(ROUNDS):
        of = settings(address)
        asyncio.run(topics.ensure(of))
        yardsticks.append(asyncio.run(alone(of)))
        for name, run in runners.items():
            of = settings(address)
            asyncio.run(topics.ensure(of))
            with run(of) as process:
                found[name].append(taking(of, process, seconds))
    steps = Steps(*map(statistics.median, zip(*yardsticks, strict=True)))
    print(f"one small transaction alone: {steps}")
    for name, rounds in found.items():
        p50, p90, p99, most, cores = map(statistics.median, zip(*rounds, strict=True))
        aim = "  (aim: p50 <= 15, p99 <= 50)" if name == "detector" else ""
        times = f"; {p50 / steps.whole:.1f} and {p99 / steps.whole:.1f} of one alone"
        times += "  (aim: 3.3 and 11)" if name == "detector" else ""
        print(
            f"latency at 1000/s, {name}: p50 {p50:.1f}  p90 {p90:.1f}  p99 {p99:.1f}"
            f"  max {most:.1f} ms{aim}{times};  {cores:.0%} of a core"
        )


def taking(of: TopicSettings, process: psutil.Process, seconds: float) -> Latency:
    """Measure what goes from topic to topic at a steady 1000 a second."""
    watch = Watch(of)
    load = Offer(of, watch)
    load.send(1000, 3)
    watch.wait(load.sent, 30)
    watch.latencies_ms.clear()
    used = sum(process.cpu_times()[:2])
    load.send(1000, seconds)
    watch.wait(load.sent, 30)
    used = sum(process.cpu_times()[:2]) - used
    watch.close()
    cuts = statistics.quantiles(watch.latencies_ms, n=100)
    return Latency(cuts[49], cuts[89], cuts[98], max(watch.latencies_ms), used / seconds)


class Pace(NamedTuple):
    """How fast a group settles records, and what that takes."""

    per_second: float
    cpu_us: float
    """CPU time of the process a record, in microseconds: it hardly depends on the neighbours."""


class Mark(NamedTuple):
    """How far a group is; clock and processor time, both before it was asked and after."""

    settled: int
    before: tuple[float, float]
    after: tuple[float, float]


def settling(of: TopicSettings, group: str, count: int, process: psutil.Process) -> Pace:
    """Measure a group that settles `count` records, from a tenth of them to almost all.

    A busy coordinator takes its time to say how many: it counts in full, before the first answer
    and before the last.
    """
    deadline = time.monotonic() + PATIENCE_S
    marks: list[Mark] = []
    with progress(of, group) as settled:
        while not marks or marks[-1].settled < count:
            assert time.monotonic() < deadline, f"{marks[-1:]} of {count}"
            before = time.perf_counter(), sum(process.cpu_times()[:2])
            many = settled()
            after = time.perf_counter(), sum(process.cpu_times()[:2])
            marks.append(Mark(many, before, after))
            time.sleep(0.01)
    first = [mark for mark in marks if mark.settled < 0.1 * count][-1]
    last = next(mark for mark in marks if mark.settled >= 0.95 * count)
    records = last.settled - first.settled
    took, used = (end - begin for begin, end in zip(first.before, last.after, strict=True))
    return Pace(records / took, used / records * 1e6)


WINDOW_RULES = """
[[rules]]
id = "amount-limit"
kind = "amount_limit"
weight = 60
limit = 900

[[rules]]
id = "velocity"
kind = "velocity"
weight = 40
within = "60s"
limit = 500

[[rules]]
id = "sum"
kind = "sum_limit"
weight = 40
within = "10m"
limit = 1_000_000

[[rules]]
id = "structuring"
kind = "structuring"
weight = 60
within = "10m"
count = 3
least = 850
most = 900

[[rules]]
id = "new-counterparty"
kind = "new_counterparty"
weight = 20
within = "10m"
limit = 500
"""
"""Every kind of rule that has a window, and the default one."""


def throughput(address: str, count: int = 600_000) -> None:
    """A back-log, with the default rule and with all window rules, against the plain loop."""
    of = settings(address)
    asyncio.run(topics.ensure(of))
    fill(of, count, spread_ms=count)
    plain, ours, windows = [], [], []
    with TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.toml"
        rules.write_text(WINDOW_RULES)
        for number in range(ROUNDS):
            group = f"{of.transactions_topic}-{number}"
            with plain_process(of, group=f"{group}-plain") as process:
                plain.append(settling(of, f"{group}-plain", count, process))
            with detector(of, DETECTOR_GROUP=group) as process:
                ours.append(settling(of, group, count, process))
            group += "-windows"
            with detector(of, DETECTOR_GROUP=group, DETECTOR_RULES=str(rules)) as process:
                windows.append(settling(of, group, count, process))
    rate, cpu = map(statistics.median, zip(*plain, strict=True))
    print(f"throughput of the plain copying loop: {rate:,.0f}/s at {cpu:.1f} us CPU a record")
    for name, paces, aim in (("default rule", ours, 2), ("all window rules", windows, 1)):
        rate, cpu = map(statistics.median, zip(*paces, strict=True))
        pairs = zip(paces, plain, strict=True)
        times = statistics.median(our.per_second / its.per_second for our, its in pairs)
        print(
            f"throughput with {name}: {rate:,.0f}/s at {cpu:.1f} us CPU a record:"
            f" {times:.2f} times the plain loop  (aim: >= {aim})"
        )


def rebuild(address: str, count: int = 600_000) -> None:
    """A takeover with ten minutes of transactions in the windows, and memory with them."""
    of = settings(address)
    asyncio.run(topics.ensure(of))
    with detector(of, DETECTOR_GROUP="bench-empty") as process:
        time.sleep(5)
        empty = process.memory_info().rss
    fill(of, count, spread_ms=590_000)
    group = of.transactions_topic
    settle_all(of, group)
    began = time.perf_counter()
    with progress(of, group) as settled, detector(of) as process:
        fill(of, PARTITIONS * 50, first=count)
        while settled() < count + PARTITIONS * 50:
            assert time.perf_counter() - began < PATIENCE_S, "no takeover"
            time.sleep(0.02)
        spent = time.perf_counter() - began
        full = process.memory_info().rss
    print(
        f"rebuild: {count:,} records and the first verdicts after it in {spent:.1f} s from the"
        f" process's start  (aim: <= 8);  {full >> 20} MiB resident, {empty >> 20} when empty:"
        f" {(full - empty) / count * 1e6 / 2**20:.0f} MiB a million entries"
    )


def memory(address: str) -> None:
    """Resident memory at 1000 transactions a second with full ten-minute windows."""
    minutes = float(os.environ.get("BENCH_MINUTES", "1"))
    of = settings(address)
    asyncio.run(topics.ensure(of))
    fill(of, 600_000, spread_ms=590_000)
    settle_all(of, of.transactions_topic)
    watch = Watch(of)
    resident = []
    with detector(of) as process:
        load = Offer(of, watch, first=600_000)
        for _ in range(max(2, int(minutes * 12))):
            load.send(1000, 5)
            resident.append(process.memory_info().rss / 2**20)
        watch.wait(load.sent, 60)
    watch.close()
    print(
        f"memory at 1000/s, ten-minute windows full, over {minutes:g} min: first"
        f" {resident[1]:.0f}, last {resident[-1]:.0f}, most {max(resident):.0f} MiB (aim: <= 400)"
    )


@contextmanager
def broker_at() -> Iterator[str]:
    """Give the address of the broker to use; one of our own if none is named."""
    if given := os.environ.get("KAFKA_BROKER_URL"):
        yield given
        return
    with TemporaryDirectory() as data:
        [node] = broker.prepare(Path(data), jars.install(), port=0)
        process = subprocess.Popen(node.argv, env=os.environ | node.env, stdout=subprocess.DEVNULL)
        try:
            asyncio.run(broker.answers(node.address, patience=30))
            yield node.address
        finally:
            process.kill()
            process.wait()


BENCHES = {"latency": latency, "throughput": throughput, "rebuild": rebuild, "memory": memory}


def main() -> int:
    """Run what is asked for, or everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=list(BENCHES))
    logs.configure(KafkaSettings(log_level="warning"), "bench")
    with broker_at() as address:
        for what in parser.parse_args().what:
            BENCHES[what](address)
    return 0


if __name__ == "__main__":
    sys.exit(main())
