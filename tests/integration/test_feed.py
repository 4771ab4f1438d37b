"""The feed of one verdict topic: what it hands over, and where it goes on after trouble."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete

from api.errors import ReaderError
from api.streams import feed as feeds
from api.streams.connection import Connection
from api.streams.position import FRAUD
from tests.following import DEADLINE_S, Pages, numbered, write
from tests.streaming import add_partitions, writing
from wire import kafka
from wire.settings import TopicSettings
from wire.source import Chunk

LATER_MS = 4_000_000_000_000


async def test_a_backlog_is_handed_over_in_turns(kafka_settings: TopicSettings) -> None:
    """Compressed by another producer, it comes whole, in order, some at a time."""
    values = numbered(0, 20_000)
    await asyncio.to_thread(
        write, kafka_settings, values, **{"compression.type": "gzip", "linger.ms": 100}
    )
    pages = Pages(kafka_settings, stream_tail_records=len(values))
    async with pages.following():
        await pages.until_count(len(values))
    assert pages.offsets == {0: [*range(len(values))]}
    assert pages.values == {0: values}
    assert max(pages.sizes) < 2 * feeds.RECORDS_IN_ONE_GO
    assert pages.gone == []


async def test_only_the_tail_is_read_at_the_start(kafka_settings: TopicSettings) -> None:
    """As many records of each partition as the setting says, and all that come then."""
    await asyncio.to_thread(write, kafka_settings, numbered(0, 50))
    pages = Pages(kafka_settings, stream_tail_records=10)
    async with pages.following():
        await asyncio.to_thread(write, kafka_settings, numbered(50, 52))
        await pages.until_count(12)
    assert pages.begun == {0: 40, 1: 0, 2: 0, 3: 0}
    assert pages.values == {0: numbered(40, 52)}


async def test_positions_pass_what_is_no_event(kafka_settings: TopicSettings) -> None:
    """Aborted records, the transactions' markers and tombstones: nothing lags behind them."""
    pages = Pages(kafka_settings)
    async with (
        pages.following(),
        writing(kafka_settings, kafka_settings.fraud_topic) as writer,
    ):
        await writer.abort(FRAUD, 0)
        await writer.write(FRAUD, 1)
        async with writer.producer.transaction():
            await writer.producer.send_and_wait(kafka_settings.fraud_topic, key=b"k", partition=2)
        await pages.until(lambda: pages.feed.next == [2, 2, 2, 0])
        assert pages.feed.lag() == 0
    assert [*pages.values] == [1]


async def test_records_that_went_while_nobody_looked_are_told(
    kafka_settings: TopicSettings,
) -> None:
    """It goes on at the log's start, with what was expected and what there is; others go on too."""
    await asyncio.to_thread(write, kafka_settings, numbered(0, 3))
    pages = Pages(kafka_settings)
    async with pages.following():
        await pages.until_count(3)
    await asyncio.to_thread(write, kafka_settings, numbered(3, 9))
    await asyncio.to_thread(write, kafka_settings, numbered(0, 2), 1)
    admin = await kafka.start(lambda: kafka.admin(kafka_settings))
    place = TopicPartition(kafka_settings.fraud_topic, 0)
    await admin.delete_records({place: RecordsToDelete(before_offset=7)})
    await kafka.close(admin)
    async with pages.following():
        await pages.until_count(5, 2)
    assert pages.gone == [(0, 3, 7)]
    assert pages.values == {0: numbered(0, 3) + numbered(7, 9), 1: numbered(0, 2)}


async def test_partitions_that_are_added_are_followed_on_the_same_connection(
    kafka_settings: TopicSettings,
) -> None:
    """Those that were there go on undisturbed; the new ones are read from their start."""
    pages = Pages(kafka_settings)
    async with pages.following():
        connection = pages.feed._connection
        assert connection is not None
        await add_partitions(kafka_settings, kafka_settings.fraud_topic, 5)
        await asyncio.to_thread(write, kafka_settings, numbered(0, 3), 4)
        async with asyncio.timeout(DEADLINE_S):
            while not connection.unread and len(pages.feed.next) < 5:
                await connection._client.force_metadata_update()
        await pages.until_count(0, 0, 0, 0, 3)
        assert pages.feed._connection is connection
        assert [*(await pages.feed.ends()).values()] == [0, 0, 0, 0, 3]
    assert pages.begun[4] == 0
    assert pages.values == {4: numbered(0, 3)}


async def test_a_topic_made_anew_with_fewer_partitions_is_followed(
    kafka_settings: TopicSettings,
) -> None:
    """What was in those that are no more is told to be gone, and offsets are told all the same."""
    topic = kafka_settings.fraud_topic
    pages = Pages(kafka_settings)
    async with pages.following():
        for partition in range(4):
            await asyncio.to_thread(write, kafka_settings, numbered(0, 3), partition)
        await pages.until_count(3, 3, 3, 3)
    admin = await kafka.start(lambda: kafka.admin(kafka_settings))
    await admin.delete_topics([topic])
    async with asyncio.timeout(DEADLINE_S):
        while topic in await admin.list_topics():
            await asyncio.sleep(0.1)
        while not await made(admin, topic):
            await asyncio.sleep(0.1)
    await kafka.close(admin)
    await asyncio.to_thread(write, kafka_settings, numbered(3, 5), 1)
    async with pages.following():
        await pages.until_count(3, 5, 3, 3)
        assert await pages.feed.earliest() == {0: 0, 1: 0, 2: 0, 3: 0}
        assert await pages.feed.ends() == {0: 0, 1: 2, 2: 0, 3: 0}
        assert await pages.feed.since(LATER_MS) == {0: 0, 1: 2, 2: 0, 3: 0}
    assert {(2, 3, 0), (3, 3, 0)} <= set(pages.gone)


async def made(admin: AIOKafkaAdminClient, topic: str) -> bool:
    """Make a topic of two partitions; False while the one before it is not gone for good."""
    answer = await admin.create_topics([NewTopic(topic, 2, 1)])
    return [error[1] for error in answer.topic_errors] == [0]


async def test_a_broker_that_hangs_is_noticed(
    own_broker: Any, own_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed says that it does not follow, connects anew, and has all when the broker goes on."""
    monkeypatch.setattr(feeds, "STUCK_AFTER_S", 2.0)
    monkeypatch.setattr(feeds, "FOLLOWING_WITHIN_S", 1.0)
    pages = Pages(own_settings)
    async with pages.following():
        await asyncio.to_thread(write, own_settings, numbered(0, 2))
        await pages.until_count(2)
        connection = pages.feed._connection
        own_broker.processes[1].send_signal(signal.SIGSTOP)
        async with asyncio.timeout(DEADLINE_S):
            while pages.feed.following or pages.feed._connection is connection:
                await asyncio.sleep(0.1)
        own_broker.processes[1].send_signal(signal.SIGCONT)
        await asyncio.to_thread(write, own_settings, numbered(2, 4))
        await pages.until_count(4)
    assert pages.values == {0: numbered(0, 4)}


async def test_offsets_are_told(kafka_settings: TopicSettings) -> None:
    """The first ones, the ends, and those by time, of every partition."""
    pages = Pages(kafka_settings)
    async with pages.following():
        await asyncio.to_thread(write, kafka_settings, numbered(0, 5))
        feed = pages.feed
        assert await feed.earliest() == {0: 0, 1: 0, 2: 0, 3: 0}
        assert await feed.ends() == {0: 5, 1: 0, 2: 0, 3: 0}
        assert await feed.since(0) == {0: 0, 1: 0, 2: 0, 3: 0}
        assert await feed.since(LATER_MS) == {0: 5, 1: 0, 2: 0, 3: 0}
    with pytest.raises(ConnectionError):
        await feed.ends()


async def test_what_is_not_taken_in_ends_the_feed(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that fails has a hole in what it read: going on would hide it."""
    pages = Pages(kafka_settings)
    monkeypatch.setattr(pages, "read", None)
    with pytest.raises(ReaderError):
        async with asyncio.timeout(DEADLINE_S):
            await pages.feed.run()


async def test_failures_that_a_new_connection_does_not_end_end_the_feed(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first are tried again, the last is raised; one that was read in between begins anew."""
    monkeypatch.setattr(feeds, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(feeds, "FAILURES_IN_A_ROW", 3)
    failures = [RuntimeError(f"unforeseen {number}") for number in range(5)]
    pages = Pages(kafka_settings)
    read = Connection.read

    async def fails_but_once(connection: Connection) -> Sequence[Chunk]:
        if len(failures) == 3 and not pages.sizes:
            return await read(connection)
        raise failures.pop(0)

    monkeypatch.setattr(Connection, "read", fails_but_once)
    with pytest.raises(RuntimeError, match="unforeseen 4"):
        async with asyncio.timeout(DEADLINE_S):
            await pages.feed.run()
