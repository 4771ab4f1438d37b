"""What a transaction leaves whose markers Kafka never wrote: an owner settles it as it ended."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from compose import jars
from detector import requests
from detector.coordinators import Coordinators
from detector.errors import AbortedError
from detector.requests import Membership, Producer
from detector.settings import DetectorSettings
from detector.writer import Writer
from tests.cluster import Cluster
from tests.conftest import topic_settings, written
from tests.owning import Read, member, outcome, values, writer_of
from wire import topics

NOW_MS = time.time_ns() // 1_000_000
HANGING = {"transaction.partition.verification.enable": "false"}
"""Lets records and offsets into the log that are of no transaction of the coordinator's."""


pytestmark = pytest.mark.usefixtures("transactions_version")


@pytest.fixture(scope="module")
def kafka(
    tmp_path_factory: pytest.TempPathFactory, kafka_installation: jars.Installation
) -> Iterator[Cluster]:
    """A broker on which transactions can be left hanging; not yet started."""
    cluster = Cluster(tmp_path_factory.mktemp("hanging"), kafka_installation, extra=HANGING)
    yield cluster
    cluster.kill()


@pytest.fixture
async def settings(kafka: Cluster) -> DetectorSettings:
    """Settings of this test alone for that broker."""
    await kafka.restore()
    made = topic_settings(kafka.address)
    await topics.ensure(made)
    return DetectorSettings(**(made.model_dump() | {"detector_group": made.transactions_topic}))


async def hang(writer: Writer, membership: Membership, value: bytes, *, committed: bool) -> None:
    """End a transaction of which neither a verdict nor the offset after it gets a marker.

    Kafka's coordinator leaves it so where it takes the partitions for deleted: it has ended, as far
    as that knows, but the markers are missing. Here it does not know of these partitions at all.
    """
    transactions = writer._transactions
    coordinators = transactions._coordinators
    version_2, coordinators.version_2 = coordinators.version_2, False
    elsewhere = TopicPartition(writer._settings.dead_letter_topic, 3)
    await coordinators.add_partitions(transactions._producer, [elsewhere])
    [row] = writer._rows({0: outcome(value)}, NOW_MS)
    built = {place: batch.build(transactions._producer, 0) for place, batch in row.items()}
    for node, part in transactions._by_leader(built).items():
        answer = await transactions._produce(node, part)
        assert {entry[1] for _, entries in answer.topics for entry in entries} == {0}
    request = requests.commit_offsets(
        transactions._producer, membership, transactions._topic, {0: 2}, version=3
    )
    answer = await coordinators.of_group(membership.group, request)
    assert {entry[1] for _, entries in answer.errors for entry in entries} == {0}
    coordinators.version_2 = version_2
    await coordinators.end(transactions._producer, committed=committed)


@pytest.fixture(params=[True, False], ids=["committed", "aborted"])
async def left(
    request: pytest.FixtureRequest, settings: DetectorSettings
) -> AsyncIterator[tuple[Membership, bool]]:
    """Leave a transaction hanging that was, or was not, committed."""
    committed: bool = request.param
    async with member(settings) as membership:
        async with writer_of(settings, [0, 1], membership) as former:
            await former.take_over()
            await former.write({0: outcome(b"before")}, {0: 1}, NOW_MS)
            await former.take_over()
            await hang(former, membership, b"hanging", committed=committed)
        yield membership, committed


async def test_it_is_ended_as_it_was_said_to_be(
    settings: DetectorSettings, left: tuple[Membership, bool], read_committed: Read
) -> None:
    """Verdicts and offset both count, or neither does; and nothing waits for ever."""
    membership, committed = left
    async with writer_of(settings, [0, 1], membership) as owner:
        offset = 2 if committed else 1
        assert await owner.take_over() == {0: offset, 1: None}
        await owner.write({0: outcome(b"next")}, {0: offset + 1}, NOW_MS)
    expected = [b"before", b"hanging", b"next"] if committed else [b"before", b"next"]
    assert values(read_committed, settings) == expected


async def test_it_is_ended_by_the_next_where_an_owner_is_cut_off(
    settings: DetectorSettings,
    left: tuple[Membership, bool],
    read_committed: Read,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Taking the id over makes Kafka forget how its transaction ended: word of it is left there."""
    membership, committed = left

    async def cut_off(*_: Any) -> None:
        raise KafkaConnectionError("cut off")

    with monkeypatch.context() as broken:
        broken.setattr(Coordinators, "add_partitions", cut_off)
        for _ in range(2):
            async with writer_of(settings, [0, 1], membership) as owner:
                with pytest.raises(AbortedError, match="cut off"):
                    await owner.take_over()
    async with writer_of(settings, [1], membership) as other:
        await other._transactions.take([f"{membership.group}.{settings.transactions_topic}.0"], 990)
    async with writer_of(settings, [0, 1], membership) as owner:
        assert await owner.take_over() == {0: 2 if committed else 1, 1: None}
    expected = [b"before", b"hanging"] if committed else [b"before"]
    assert values(read_committed, settings) == expected


async def test_it_is_ended_once(
    settings: DetectorSettings, left: tuple[Membership, bool], read_committed: Read
) -> None:
    """What the last owner settled is left alone by the next, however many have written before."""
    membership, committed = left
    async with writer_of(settings, [0, 1], membership) as owner:
        await owner.take_over()
    assert len(read_committed(settings, settings.legit_topic)) == 1 + committed  # all are marked
    ends = written(settings, settings.legit_topic)
    async with writer_of(settings, [0, 1], membership) as owner:
        await owner.take_over()
    assert written(settings, settings.legit_topic) == ends


async def test_none_goes_on_when_another_has_failed(
    settings: DetectorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What still took an id over then would fence who takes it over next."""
    ended = asyncio.Event()
    cause = KafkaConnectionError("why")

    async def one_fails(_coordinators: Coordinators, name: str, **_: Any) -> Producer:
        if name.endswith(".0"):
            raise AbortedError("on purpose") from cause
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Producer(name, -1, -1)

    monkeypatch.setattr("detector.transactions.take_over", one_fails)
    membership = Membership(settings.detector_group, 1, "member")
    async with writer_of(settings, [0, 1], membership) as owner:
        with pytest.raises(AbortedError, match="on purpose") as caught:
            await owner.take_over()
        assert (ended.is_set(), caught.value.__cause__) == (True, cause)


async def test_a_lone_broker_that_is_killed_as_it_commits_has_committed(
    kafka: Cluster,
    settings: DetectorSettings,
    read_committed: Read,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer is a promise, though it may have had no time to write the markers."""
    async with member(settings) as membership:
        async with writer_of(settings, [0], membership) as former:
            await former.take_over()
            await former.write({0: outcome(b"a")}, {0: 1}, NOW_MS)
            commit = former._transactions.commit

            async def killing() -> None:
                await commit()
                kafka.kill()

            monkeypatch.setattr(former._transactions, "commit", killing)
            await former.write({0: outcome(b"b")}, {0: 2}, NOW_MS)
        await kafka.restore()
        async with writer_of(settings, [0], membership) as owner:
            assert await owner.take_over() == {0: 2}
    assert values(read_committed, settings) == [b"a", b"b"]
