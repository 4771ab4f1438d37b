"""Exactly once under kills: detectors killed and stopped at random, brokers killed, under load.

In the long form, the broker also stays away for longer than any deadline of a step.

FRAUDSTREAM_CHAOS=full runs the long form; FRAUDSTREAM_CHAOS_SEED repeats a run's order of events.
"""

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Message, Producer

from tests import forked
from tests.chaos.fleet import FULL, SETTLE_S, Fleet, settled
from wire.messages import decode_transaction, decode_verdict
from wire.settings import TopicSettings

DETECTORS = 3
KILLS, ZOMBIES, BROKER_KILLS, OUTAGES = (20, 5, 3, 1) if FULL else (3, 1, 1, 0)
OUTAGE_S = 31.0
SESSION_S = 6.0 if FULL else 2.0
PER_SECOND = 1_000 if FULL else 500
RULES = f"""
threshold = 50
duplicates = "60s"

[[rules]]
id = "amount-limit"
kind = "amount_limit"
weight = 50
limit = 900

[[rules]]
id = "velocity"
kind = "velocity"
weight = 50
within = "20s"
limit = {PER_SECOND // 5}
"""


class Load:
    """Transactions at a steady rate, some sent twice; knows which were accepted."""

    def __init__(self, settings: TopicSettings) -> None:
        self.accepted: set[str] = set()
        self._settings = settings
        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka_broker_url,
                "enable.idempotence": True,
                "linger.ms": 5,
                "log_level": 0,
                "error_cb": lambda _error: None,
            }
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        began, number = time.monotonic(), 0
        while not self._over.is_set():
            while number < (time.monotonic() - began) * PER_SECOND:
                self._send(number)
                if number % 50 == 0:
                    self._send(number)
                number += 1
            self._producer.poll(0.005)

    def _send(self, number: int) -> None:
        source = f"account-{number * 31 % 97}"
        amount = "900.01" if number % 10 == 0 else f"{number % 900 + 1}.00"
        transaction_id = f"t-{number}"
        value = (
            f'{{"transaction_id":"{transaction_id}","source":"{source}","target":"x",'
            f'"amount":"{amount}","currency":"EUR"}}'
        )

        def delivered(error: Any, _message: Message) -> None:
            if error is None:
                self.accepted.add(transaction_id)

        self._producer.produce(
            self._settings.transactions_topic,
            value.encode(),
            source.encode(),
            on_delivery=delivered,
        )

    def stop(self) -> None:
        """End, with every record delivered."""
        self._over.set()
        self._thread.join()
        assert self._producer.flush(60) == 0


def test_exactly_once_under_kills(
    own_broker: Any,
    own_settings: TopicSettings,
    read_committed: Callable[[TopicSettings, str], list[Message]],
    tmp_path: Path,
) -> None:
    """Each accepted transaction has one verdict, on the right topic, as a backtest has it."""
    seed = int(os.environ.get("FRAUDSTREAM_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"FRAUDSTREAM_CHAOS_SEED={seed}")  # noqa: T201 - to repeat a run that failed
    chance = random.Random(seed)
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    events = ["kill"] * KILLS + ["zombie"] * ZOMBIES + ["broker"] * BROKER_KILLS
    events += ["outage"] * OUTAGES
    chance.shuffle(events)
    with under_load(own_settings, rules) as (fleet, load):
        settled(own_settings, least=PER_SECOND)
        for event in events:
            time.sleep(chance.uniform(0.2, 3.0))
            victim = chance.choice(fleet.processes)
            if event == "kill":
                victim.kill()
            elif event == "zombie":
                victim.send_signal(signal.SIGSTOP)
                time.sleep(SESSION_S + chance.uniform(1.0, 4.0))
                victim.send_signal(signal.SIGCONT)
            else:
                own_broker.kill()
                time.sleep(OUTAGE_S if event == "outage" else chance.uniform(0.1, 2.0))
                own_broker.launch()
        load.stop()
        settled(own_settings)
    records = read_committed(own_settings, own_settings.transactions_topic)
    posted = [decode_transaction(record.value()).transaction_id for record in records]
    verdicts = [
        (topic, decode_verdict(message.value()))
        for topic in (own_settings.legit_topic, own_settings.fraud_topic)
        for message in read_committed(own_settings, topic)
    ]
    print(f"{len(records)} records; ended by themselves: {Counter(fleet.codes)}")  # noqa: T201
    assert Counter(verdict.transaction_id for _, verdict in verdicts) == Counter(set(posted))
    assert load.accepted <= set(posted)
    names = {"legit": own_settings.legit_topic, "fraud": own_settings.fraud_topic}
    assert [topic for topic, _ in verdicts] == [names[v.decision] for _, v in verdicts]
    backtest = ("detector.backtest", "--rules", str(rules), "--strict")
    assert forked.start(*backtest, env=fleet.environment).wait(SETTLE_S) == 0


@contextlib.contextmanager
def under_load(settings: TopicSettings, rules: Path) -> Iterator[tuple[Fleet, Load]]:
    """Run detectors and load; the detectors end with code 0."""
    session_ms = int(SESSION_S * 1000)
    given = {"detector_rules": rules, "detector_session_timeout_ms": session_ms}
    fleet, load = Fleet(DETECTORS, settings, **given), Load(settings)
    try:
        yield fleet, load
    finally:
        load.stop()
        codes = fleet.stop()
    assert codes == [0] * DETECTORS
