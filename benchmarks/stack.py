"""The whole stack on one machine: time to ready, memory of each part, and the verified load."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

STARTS = 3
TPS = 1000
SECONDS = 60
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


def memory(processes: list[psutil.Process]) -> dict[str, float]:
    """Give each part's resident memory in MB, found by its command line."""
    found = {}
    for process in processes:
        for part in AIMS_MB:
            if part in process.cmdline():
                found[part] = process.memory_info().rss / MB
    return found


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
            options = ("--url", url, "--tps", str(TPS), "--duration", str(SECONDS))
            load = psutil.Popen(
                [*COMMAND, "loadgen", *options, "--verify", "--json"],
                stdout=subprocess.PIPE,
                text=True,
            )
            peak: dict[str, float] = {}
            while load.poll() is None:
                for part, used in memory([*up.children(recursive=True), load]).items():
                    peak[part] = max(used, peak.get(part, 0))
                time.sleep(1)
            summary = json.load(load.stdout)
        print(f"peak resident memory at {TPS} TPS over {SECONDS} s:")
        for part, aim in AIMS_MB.items():
            print(f"  {part:12} {peak[part]:4.0f} MB (aim {aim})")
        print("load, verified:")
        print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
