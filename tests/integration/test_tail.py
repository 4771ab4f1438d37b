"""`fraudstream tail` beside records that are no verdict, and before readers that leave."""

import asyncio
import os
import subprocess
import sys

import pytest
from confluent_kafka import Producer

from compose.tail import line
from tests import foreign, forked
from tests.processes import Programs, environment
from tests.streaming import verdict
from wire.messages import Reason, decode_verdict, instant
from wire.settings import TopicSettings


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_what_is_no_verdict_is_told_and_passed_over(
    run: Programs, kafka_settings: TopicSettings, form: tuple[str, ...]
) -> None:
    """A tombstone and bytes that are no text: verdicts beside them are printed, and counted.

    Whatever the names of their headers: Kafka lets them be bytes.
    """
    values = (verdict("first"), None, b"\xff no JSON", verdict("second", source="carl"))
    asyncio.run(foreign.write(kafka_settings, kafka_settings.legit_topic, *values))
    options = ("--from-beginning", "--max-messages", "2", *form)
    env = environment(kafka_settings, log_format="text")
    tail = run.start("-m", "compose", "tail", "legit", *options, env=env)
    assert tail.wait() == 0, tail.output
    assert tail.output.count("no verdict") == 2
    assert [tail.output.count(name) for name in ("anna", "carl")] == [1, 1]


def test_a_line_tells_the_day_and_what_is_on_trial() -> None:
    """A topic holds a week; and what did not count is no reason for the decision beside it."""
    tried = Reason("new", "1", "odd", shadow=True)
    told = decode_verdict(verdict("t", reasons=(tried,), decided_at=instant(1_700_000_000_001)))
    assert line(told).plain == (
        "2023-11-14T22:13:20.001Z legit         900.01 EUR anna → ben new: odd (shadow)"
    )


@pytest.mark.parametrize(
    ("form", "shown"),
    [((), "Jürgen Ørsted \\u5f35".encode("latin-1")), (("--json",), "Jürgen Ørsted 張".encode())],
    ids=["text", "json"],
)
def test_a_terminal_that_lacks_a_letter_is_shown_the_others(
    kafka_settings: TopicSettings, form: tuple[str, ...], shown: bytes
) -> None:
    """One of Latin letters only, say. JSON is printed as it lies in Kafka, which is UTF-8."""
    producer = Producer({"bootstrap.servers": kafka_settings.kafka_broker_url, "log_level": 0})
    value = verdict("t", source="Jürgen Ørsted 張")
    producer.produce(kafka_settings.legit_topic, value, partition=0)
    assert producer.flush(20) == 0
    options = ("legit", "--from-beginning", "--max-messages", "1", *form)
    env = os.environ | environment(kafka_settings) | {"PYTHONIOENCODING": "latin-1"}
    argv = (sys.executable, "-m", "compose", "tail", *options)
    tail = subprocess.run(argv, env=env, capture_output=True, timeout=60, check=False)
    assert tail.returncode == 0, tail.stderr
    assert shown in tail.stdout


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_that_has_enough_ends_it(
    kafka_settings: TopicSettings, form: tuple[str, ...]
) -> None:
    """As `tail … | head -1` does: with no complaint and exit code 0."""
    producer = Producer({"bootstrap.servers": kafka_settings.kafka_broker_url, "log_level": 0})
    producer.produce(kafka_settings.legit_topic, verdict("first"), partition=0)
    assert producer.flush(20) == 0
    reading, writing = os.pipe()
    options = ("legit", "--from-beginning", *form)
    env = os.environ | environment(kafka_settings)
    tail = forked.start("compose", "tail", *options, env=env, output=writing)
    os.close(writing)
    assert b"anna" in os.read(reading, 65536)
    os.close(reading)
    producer.produce(kafka_settings.legit_topic, verdict("second"), partition=0)
    assert producer.flush(20) == 0
    assert tail.wait(40) == 0
