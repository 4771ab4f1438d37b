"""The whole stack on one machine: time to ready, each part's memory, its price of a transaction."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

STARTS = 3
TPS = 1000
SECONDS = 60
BATCHED = ("--tps", "10000", "--batch", "100", "--duration", "15")
MB = 1_000_000
AIMS_MB = {"api": 150, "detector": 150, "loadgen": 150, "kafka.Kafka": 600}
COMMAND = (sys.executable, "-m", "compose")


@contextmanager
def stack(data: Path) -> Iterator[tuple[psutil.Popen, str, float]]:
    """Run `up` without load; give its process, the gateway's address and the seconds to ready."""
    began = time.monotonic()
    options = ("--data-dir", str(data), "--port", "0", "--kafka-port", "29092", "--tps", "0")
    up = psutil.Popen([*COMMAND, "up", *options], stdout=subprocess.PIPE, text=True)
    try:
        ready = next((line for line in up.stdout if line.startswith("ready ")), None)
        if ready is None:
            sys.exit("the stack did not come up")
        yield up, ready.split()[1], time.monotonic() - began
    finally:
        up.terminate()
        up.wait(15)


def parts(processes: list[psutil.Process]) -> Iterator[tuple[str, psutil.Process]]:
    """Give the processes of the parts, found by their command lines."""
    for process in processes:
        for part in AIMS_MB:
            if part in process.cmdline():
                yield part, process


def memory(processes: list[psutil.Process]) -> dict[str, float]:
    """Give each part's resident memory in MB."""
    return {part: process.memory_info().rss / MB for part, process in parts(processes)}


def processor(processes: list[psutil.Process]) -> dict[str, float]:
    """Give the processor time that each part has used, in seconds."""
    return {part: sum(process.cpu_times()[:2]) for part, process in parts(processes)}


def driven(up: psutil.Popen, url: str, *options: str) -> tuple[Any, dict[str, float]]:
    """Run a load; give its summary and each part's peak memory; print what a transaction cost."""
    load = psutil.Popen(
        [*COMMAND, "loadgen", "--url", url, *options, "--verify", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    before = processor(up.children(recursive=True))
    peak: dict[str, float] = {}
    while load.poll() is None:
        with suppress(psutil.NoSuchProcess):  # the load may end just now
            for part, used in memory([*up.children(recursive=True), load]).items():
                peak[part] = max(used, peak.get(part, 0))
        time.sleep(1)
    summary = json.load(load.stdout)
    after = processor(up.children(recursive=True))
    print(f"processor time of a transaction, {' '.join(options)}:")
    for part, spent in after.items():
        print(f"  {part:12} {(spent - before[part]) / summary['accepted'] * 1e6:4.0f} µs")
    return summary, peak


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory)
        starts = []
        for _ in range(STARTS):
            with stack(data) as (_, _, seconds):
                starts.append(seconds)
        median = statistics.median(starts)
        print(f"ready after, with warm caches, median of {STARTS}: {median:.1f} s (aim 8)")
        with stack(data) as (up, url, _):
            summary, peak = driven(up, url, "--tps", str(TPS), "--duration", str(SECONDS))
            _, batched_peak = driven(up, url, *BATCHED)
        print(f"peak resident memory in MB at {TPS} TPS over {SECONDS} s, and then in batches:")
        for part, aim in AIMS_MB.items():
            print(f"  {part:12} {peak[part]:4.0f} (aim {aim}) {batched_peak[part]:4.0f}")
        print("load, verified:")
        print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
