"""Detectors that are killed and started again, and how far they have come."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tests import forked
from wire.settings import TopicSettings

FULL = os.environ.get("FRAUDSTREAM_CHAOS") == "full"
Program = forked.Forked | subprocess.Popen[bytes]
SETTLE_S = 90
START_S = 30


class Fleet:
    """Detector processes; one that ends is started again, as a supervisor does."""

    def __init__(self, count: int, settings: TopicSettings, **given: object) -> None:
        """Start so many, with settings given by environment."""
        self.codes: list[int] = []
        """The exit codes of those that ended."""
        self.environment = os.environ | {
            "KAFKA_BROKER_URL": settings.kafka_broker_url,
            "TRANSACTIONS_TOPIC": settings.transactions_topic,
            "LEGIT_TOPIC": settings.legit_topic,
            "FRAUD_TOPIC": settings.fraud_topic,
            "DEAD_LETTER_TOPIC": settings.dead_letter_topic,
            "DETECTOR_GROUP": settings.transactions_topic,
            "DETECTOR_HEARTBEAT_MS": "300",
            "LOG_LEVEL": "warning",
            **{name.upper(): str(value) for name, value in given.items()},
        }
        self.processes = [self._start() for _ in range(count)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def _start(self) -> Program:
        if FULL:
            return subprocess.Popen([sys.executable, "-m", "detector"], env=self.environment)
        return forked.start("detector", env=self.environment)

    def _supervise(self) -> None:
        while not self._over.wait(0.1):
            for place, process in enumerate(self.processes):
                if (code := process.poll()) is not None:
                    self.codes.append(code)
                    self.processes[place] = self._start()

    def stop(self) -> list[int]:
        """End all in order; give their exit codes."""
        self._over.set()
        self._thread.join()
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            until_it_heeds(process, signal.SIGTERM)
            process.terminate()
        return [process.wait(20) for process in self.processes]


def until_it_heeds(process: Program, signum: int) -> None:
    """Wait until a process handles a signal: one that has only begun would die of it."""
    deadline = time.monotonic() + START_S
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        [caught] = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
        if int(caught, 16) >> (signum - 1) & 1:
            return
        assert time.monotonic() < deadline, f"no handler of signal {signum}"
        time.sleep(0.01)


def settled(settings: TopicSettings, least: int | None = None) -> None:
    """Wait until the detectors have settled so many records, or all that there are."""
    deadline = time.monotonic() + SETTLE_S
    ends, done, trouble = [1], [0], None
    while (done != ends) if least is None else (sum(done) < least):
        assert time.monotonic() < deadline, f"settled {done} of {ends}; {trouble}"
        time.sleep(0.1)
        try:
            ends, done = progress(settings)
        except KafkaException as error:  # a broker that was killed is coming up
            trouble = error


def progress(settings: TopicSettings) -> tuple[list[int], list[int]]:
    """Give each partition's end and how far the detectors have settled it.

    Asked with a client of its own each time: one that met a coordinator which was only coming up
    may fail for as long as it lives.
    """
    asker = Consumer(
        {
            "bootstrap.servers": settings.kafka_broker_url,
            "group.id": settings.transactions_topic,
            "log_level": 0,
            "error_cb": lambda _error: None,
        }
    )
    try:
        places = [
            TopicPartition(settings.transactions_topic, partition)
            for partition in range(settings.partitions)
        ]
        ends = [asker.get_watermark_offsets(place, timeout=5)[1] for place in places]
        return ends, [max(0, place.offset) for place in asker.committed(places, timeout=5)]
    finally:
        asker.close()
