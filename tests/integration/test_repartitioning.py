"""More partitions, added as docs/past-one-machine.md says: drained, verdict topics first."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
from aiokafka.admin import NewPartitions

from tests import forked
from tests.trust import TRUST
from wire import kafka, topics
from wire.settings import TopicSettings

DEADLINE_S = 30.0
JSON = {"content-type": "application/json"}


@contextlib.contextmanager
def detector(settings: TopicSettings) -> Iterator[None]:
    """Run a detector on these topics; it is asked to end, and has to."""
    given = {name.upper(): str(value) for name, value in settings.model_dump().items() if value}
    environment = {**os.environ, **given, "DETECTOR_GROUP": settings.fraud_topic}
    process = forked.start("detector", env=environment)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(DEADLINE_S) == 0


def post(url: str, wave: str) -> set[str]:
    """Post one transaction of each of forty accounts; give their ids."""
    names = {f"{wave}-{number}" for number in range(40)}
    for name in names:
        body = json.dumps({"transaction_id": name, "source": name[-2:], "target": "b", "amount": 1})
        answer = httpx.post(
            f"{url}/transactions", content=body, headers=JSON, timeout=DEADLINE_S, verify=TRUST
        )
        assert answer.status_code == 202, answer.text
    return names


def follow(url: str, wanted: set[str], position: str | None) -> tuple[list[str], str]:
    """Read the stream from a position (None: its beginning) until all wanted have come by."""
    seen: list[str] = []
    headers = {"last-event-id": position} if position else {}
    query = "" if position else "?since=earliest"
    deadline = time.monotonic() + DEADLINE_S
    with httpx.stream(
        "GET", f"{url}/stream/all{query}", headers=headers, timeout=30, verify=TRUST
    ) as answer:
        for line in answer.iter_lines():
            assert not line.startswith("event:"), line  # no gap
            assert time.monotonic() < deadline
            if line.startswith("id:"):
                position = line[3:].strip()
            elif line.startswith("data:"):
                seen.append(json.loads(line[5:])["transaction_id"])
                if wanted <= set(seen):
                    break
    assert position is not None
    return seen, position


async def add_partitions(settings: TopicSettings, count: int) -> None:
    """Give each topic more partitions, the transactions' topic last."""
    client = await kafka.start(lambda: kafka.admin(settings))
    try:
        for name in reversed(topics.names(settings)):
            await client.create_partitions({name: NewPartitions(count)})
    finally:
        await kafka.close(client)


async def test_nothing_is_lost_or_doubled_when_partitions_are_added(
    kafka_settings: TopicSettings, start_gateway: Callable[..., AbstractContextManager[str]]
) -> None:
    """Each transaction before and after has one verdict, and a client resumes across the change."""
    with detector(kafka_settings), start_gateway(kafka_settings) as url:
        before = post(url, "before")
        seen, position = follow(url, before, None)  # until lag is none
    assert sorted(seen) == sorted(before)
    await add_partitions(kafka_settings, 8)
    with start_gateway(kafka_settings) as url, detector(kafka_settings):
        after = post(url, "after")
        seen, _ = follow(url, after, position)
        assert sorted(seen) == sorted(after)
        everything, _ = follow(url, before | after, None)
        assert sorted(everything) == sorted(before | after)
    counts = await topics.wait(kafka_settings, *topics.names(kafka_settings))
    assert set(counts.values()) == {8}
