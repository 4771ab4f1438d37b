"""The Kafka of a test run, shared by all its processes.

    python -m tests.session_kafka DIRECTORY PID

None of pytest's workers can be its parent: it would die with the first that is done. So a process
of its own keeps it, for as long as the run's first process, PID, is there.
"""

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from compose import jars
from tests.cluster import Cluster

LOOK_EVERY_S = 0.2
START_S = 60
# Nobody kills this one. So it need not tell itself three times a second that it is there (these
# are Kafka's defaults), and takes a third less of the processor while nothing else is asked of it.
UNHURRIED = {
    "broker.heartbeat.interval.ms": "2000",
    "broker.session.timeout.ms": "9000",
    "metadata.max.idle.interval.ms": "5000",
}


def address(directory: Path, run: int) -> str:
    """Give the address of the run's Kafka; who asks first starts it."""
    directory.mkdir(exist_ok=True)
    told = directory / "address"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            argv = [sys.executable, "-m", "tests.session_kafka", str(directory), str(run)]
            with (directory / "log").open("wb") as log:
                subprocess.run(argv, stdout=log, stderr=subprocess.STDOUT, check=True)
            deadline = time.monotonic() + START_S
            while not told.exists():
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(LOOK_EVERY_S / 4)
    return told.read_text()


def keep(directory: Path, run: int) -> None:
    """Start Kafka, tell its address, and end it with the run."""
    cluster = Cluster(directory, jars.install(), extra=UNHURRIED)
    try:
        asyncio.run(cluster.start())
        half = directory / "address.new"
        half.write_text(cluster.address)
        half.rename(directory / "address")
        while psutil.pid_exists(run):
            time.sleep(LOOK_EVERY_S)
    finally:
        cluster.kill()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if os.fork() == 0:
        os.setsid()  # Ctrl-C ends the run, and the run's end this
        keep(Path(sys.argv[1]), int(sys.argv[2]))
