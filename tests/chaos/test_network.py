"""Exactly once through a network that loses answers, delays requests and goes silent.

FRAUDSTREAM_CHAOS=full runs the long form; FRAUDSTREAM_CHAOS_SEED repeats a run's chances.
"""

import contextlib
import os
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from confluent_kafka import Message

from tests.chaos.fleet import FULL, Fleet, settled
from tests.cluster import Cluster
from tests.conftest import topic_settings
from tests.lossy import Network, network
from tests.streaming import gateways
from tests.witness import Witness
from wire import topics
from wire.messages import decode_transaction, decode_verdict
from wire.settings import TopicSettings

SECONDS = 150 if FULL else 5
DETECTORS = 3 if FULL else 2
# A group is asked for seldom; records are written and fetched all the time.
SHARE = {
    "ApiVersions": 0.01,
    "EndTxn": 0.03,
    "Fetch": 0.003,
    "FindCoordinator": 0.05,
    "Heartbeat": 0.05,
    "InitProducerId": 0.1,
    "JoinGroup": 0.2,
    "ListOffsets": 0.1,
    "Metadata": 0.05,
    "OffsetFetch": 0.2,
    "Produce": 0.01,
    "SyncGroup": 0.2,
    "TxnOffsetCommit": 0.03,
}
DEADLINE_S = 3


@pytest.fixture
async def lossy(
    start_kafka: Callable[..., Cluster],
) -> AsyncIterator[tuple[TopicSettings, Network]]:
    """Topics on a broker of this test's, and a network that leads to that broker too."""
    seed = int(os.environ.get("FRAUDSTREAM_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"FRAUDSTREAM_CHAOS_SEED={seed}")  # noqa: T201 - to repeat a run that failed
    protocols = ("CONTROLLER", "PLAINTEXT", "LOSSY")
    protocol_of = ",".join(f"{each}:PLAINTEXT" for each in protocols)
    cluster = start_kafka(extra={"listener.security.protocol.map": protocol_of})
    with contextlib.ExitStack() as stack:
        with socket.socket() as held:  # nobody else is given the port before Kafka listens on it
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            made = stack.enter_context(network(port, SHARE, random.Random(seed)))
            cluster.listen(f"LOSSY://127.0.0.1:{port}", f"LOSSY://127.0.0.1:{made.port}")
            await cluster.start()
        settings = topic_settings(cluster.address)
        await topics.ensure(settings)
        yield settings, made


@pytest.mark.timeout(SECONDS + 200)
async def test_exactly_once_through_a_lossy_network(
    lossy: tuple[TopicSettings, Network],
    read_committed: Callable[[TopicSettings, str], list[Message]],
) -> None:
    """Each transaction has one verdict, on the right topic; what was accepted is among them."""
    settings, net = lossy
    given = {
        "detector_deadline_seconds": DEADLINE_S,
        "detector_session_timeout_ms": DEADLINE_S * 1000,
    }
    through = settings.model_copy(update={"kafka_broker_url": f"127.0.0.1:{net.port}"})
    fleet = Fleet(DETECTORS, through, **given)
    try:
        with gateways(through, delivery_timeout=DEADLINE_S) as (gateway,):
            await gateway.ready()
            witness = Witness(gateway.url)
            witness.start()
            settled(settings, least=100)
            net.faulty = True
            time.sleep(SECONDS)  # noqa: ASYNC251 - nothing else is on this loop
            net.faulty = False
            witness.stop()
        settled(settings)
    finally:
        codes = fleet.stop()
    assert set(codes) <= {0, 1}  # 1: of one that was giving up when it was asked to end
    print(f"{net.faults}; detectors ended by themselves: {Counter(fleet.codes)}")  # noqa: T201
    posted = {
        decode_transaction(record.value()).transaction_id
        for record in read_committed(settings, settings.transactions_topic)
    }
    verdicts = [
        (topic, decode_verdict(message.value()))
        for topic in (settings.legit_topic, settings.fraud_topic)
        for message in read_committed(settings, topic)
    ]
    assert Counter(verdict.transaction_id for _, verdict in verdicts) == Counter(posted)
    assert witness.accepted <= posted
    names = {"legit": settings.legit_topic, "fraud": settings.fraud_topic}
    assert [topic for topic, _ in verdicts] == [names[v.decision] for _, v in verdicts]
    assert net.faults
