"""A part of the gateway fails as nobody foresaw: the process ends in order, to be started anew."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest

from api import listener
from api.streams.position import FRAUD
from tests.processes import Process, Programs, environment, is_ready, until
from tests.streaming import reading, writing
from tests.trust import TRUST
from wire.settings import TopicSettings

FAILING: Final = """
import sys
from api.ingest.outbox import Outbox
from api.server import serve
from api.settings import ApiSettings
from api.streams.hub import Hub

hand_over, read = Outbox._hand_over, Hub.read

def hand_over_none(self, producer):
    if self.bytes_in_flight:
        raise RuntimeError("unforeseen")
    hand_over(self, producer)

def read_none(self, topic, events):
    if events:
        raise RuntimeError("unforeseen")
    read(self, topic, events)

if sys.argv[1] == "ingest":
    Outbox._hand_over = hand_over_none
elif sys.argv[1] == "streams":
    Hub.read = read_none
sys.exit(serve(ApiSettings()))
"""
"""A gateway, a part of which fails at the first record."""
TOLD: Final = "a part of the gateway failed: ending, to be started anew"


@contextmanager
def failing(run: Programs, settings: TopicSettings, part: str) -> Iterator[tuple[Process, Any]]:
    """Run a gateway whose part will fail; give a client of it."""
    with listener.bind("127.0.0.1", 0) as sock:
        env = environment(settings, api_fd=sock.fileno(), delivery_timeout=60)
        argv = (sys.executable, "-c", FAILING, part)
        process = run.start(*argv, env={**os.environ, **env}, fds=(sock.fileno(),))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=30, verify=TRUST) as client:
            until(lambda: is_ready(client), lambda: process.output)
            yield process, client


def test_a_failed_outbox_ends_the_process(run: Programs, kafka_settings: TopicSettings) -> None:
    """What is in flight is answered, streams are ended, the exit code is not 0."""
    with failing(run, kafka_settings, "ingest") as (process, client):
        accepted = {"Accept": "text/event-stream"}
        with client.stream("GET", "/stream/all", headers=accepted) as stream:
            posted = client.post("/transactions", json={"source": "a", "target": "b", "amount": 1})
            stream.read()
        assert (posted.status_code, posted.json()["code"]) == (503, "kafka-unavailable")
        assert (process.wait(), process.output.count(TOLD)) == (1, 1)


async def test_failed_streams_end_the_process(run: Programs, kafka_settings: TopicSettings) -> None:
    """Their clients see the end of the answer, and go on elsewhere with nothing missing."""
    with failing(run, kafka_settings, "streams") as (process, client):
        async with (
            writing(kafka_settings, kafka_settings.fraud_topic) as writer,
            reading(client.base_url, "/stream/fraud") as reader,
        ):
            await reader.block()
            await writer.write(FRAUD, 0)
            with pytest.raises(EOFError):
                await reader.event()
        assert (process.wait(), process.output.count(TOLD)) == (1, 1)


def test_a_signal_is_no_failure(run: Programs, kafka_settings: TopicSettings) -> None:
    """Asked to end, the same process ends with exit code 0, and tells of none."""
    with failing(run, kafka_settings, "none") as (process, _):
        process.popen.send_signal(signal.SIGTERM)
        assert (process.wait(), process.output.count(TOLD)) == (0, 0)
