"""The detector while Kafka is away, falls silent or comes back."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from detector.rulesfile import RulesSource
from detector.service import Detector
from tests.cluster import Cluster
from tests.conftest import topic_settings
from tests.detecting import (
    DEADLINE_S,
    Read,
    decided,
    payment,
    produce,
    running,
    settings_for,
    until,
)
from tests.processes import Programs, environment
from wire.errors import StuckError
from wire.settings import TopicSettings
from wire.topics import ensure


async def test_a_detector_may_start_with_its_broker(
    broker_that_is_down: Cluster, read_committed: Read
) -> None:
    """Both at the same moment, on fresh data, the topics made meanwhile: it waits, and decides."""
    topics = topic_settings(broker_that_is_down.address)
    sent = [payment(source=f"account-{n}") for n in range(40)]
    async with running(settings_for(topics)) as detector:
        broker_that_is_down.launch()
        await ensure(topics)
        await produce(topics, *sent)
        await until(lambda: detector.metrics.records == 40)
    assert {each.transaction_id: 1 for each in sent} == decided(read_committed, topics)


async def test_a_kafka_that_falls_silent_ends_the_process(
    own_broker: Any, own_settings: TopicSettings, tmp_path: Path
) -> None:
    """No answer within the deadline: an exit code for the supervisor to start it again, and why."""
    await produce(own_settings, payment("1.00"))
    async with running(settings_for(own_settings)) as first:  # a fresh Kafka may take longer
        await until(lambda: first.metrics.records == 1)
    programs = Programs(tmp_path)
    try:
        given = settings_for(own_settings, detector_deadline_seconds=2)
        detector = programs.start("-m", "detector", env=environment(given))
        await until(lambda: detector.output.count("working") == own_settings.partitions)
        own_broker.processes[1].send_signal(signal.SIGSTOP)
        assert await asyncio.to_thread(detector.wait) == 1
        assert "kafka did not answer within 2 s" in detector.output
    finally:
        programs.end()


async def test_the_broker_goes_and_comes_back(
    own_broker: Any, own_settings: TopicSettings, read_committed: Read
) -> None:
    """A killed broker that comes back finds the same detector at work: one verdict each.

    To one that does not, the detector ends: a new process looks for Kafka anew.
    """
    sent = [payment(source=f"account-{n}") for n in range(200)]
    async with running(settings_for(own_settings)) as detector:
        await produce(own_settings, *sent[:100])
        await until(lambda: detector.metrics.records > 0)
        own_broker.kill()
        await asyncio.to_thread(own_broker.processes[1].wait)
        await own_broker.start()
        await produce(own_settings, *sent[100:])
        await until(lambda: detector.metrics.records == 200)
    assert {each.transaction_id: 1 for each in sent} == decided(read_committed, own_settings)

    # The next time it does not come back.
    last = Detector(settings_for(own_settings, detector_deadline_seconds=2), RulesSource(None))

    async def end_kafka() -> None:
        await until(lambda: len(last.metrics.lag) == own_settings.partitions)
        own_broker.kill()

    with pytest.raises(StuckError, match="no broker has answered a fetch within 6 s"):
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(last.run(), end_kafka())
