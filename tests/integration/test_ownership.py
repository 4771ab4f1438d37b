"""Who may write which partition: a former owner is kept out, under whichever partition it wrote."""

import asyncio
import socket
import time
from contextlib import AsyncExitStack

import pytest
from aiokafka import TopicPartition

from detector.errors import FencedError
from detector.metrics import Metrics
from detector.requests import Membership
from detector.rulesfile import RulesSource
from detector.settings import DetectorSettings
from detector.worker import Worker
from tests.detecting import produce, until
from tests.owning import DEADLINE_S, Read, member, outcome, values, writer_of
from wire.errors import BrokerUnreachableError
from wire.messages import Transaction, decode_verdict
from wire.settings import TopicSettings

NOW_MS = time.time_ns() // 1_000_000  # what is older than its retention may go at any moment

pytestmark = pytest.mark.usefixtures("transactions_version")


@pytest.fixture
def settings(kafka_settings: TopicSettings) -> DetectorSettings:
    """A detector's settings, in a group of the test's own."""
    group = {"detector_group": kafka_settings.transactions_topic}
    return DetectorSettings(**(kafka_settings.model_dump() | group))


async def test_the_next_owner_goes_on_where_the_last_one_committed(
    settings: DetectorSettings, read_committed: Read
) -> None:
    """Whatever an owner has committed, in several transactions, its successor finds."""
    async with member(settings) as membership:
        async with writer_of(settings, [0, 1], membership) as first:
            assert await first.take_over() == {0: None, 1: None}
            await first.write({0: outcome(b"a"), 1: outcome(b"b")}, {0: 5, 1: 7}, NOW_MS)
            await first.write({0: outcome(b"c")}, {0: 6}, NOW_MS)
        async with writer_of(settings, [0, 1, 2], membership) as second:
            assert await second.take_over() == {0: 6, 1: 7, 2: None}
    assert values(read_committed, settings) == [b"a", b"b", b"c"]


async def test_many_batches_of_a_partition_are_one_transaction(
    settings: DetectorSettings, read_committed: Read
) -> None:
    """What does not fit into one record batch is written in several, in order."""
    settings = settings.model_copy(update={"detector_batch_bytes": 16_384})
    sent = [f"{number:06}".encode() * 100 for number in range(200)]
    async with (
        member(settings) as membership,
        writer_of(settings, [0], membership) as writer,
    ):
        await writer.take_over()
        await writer.write({0: outcome(*sent)}, {0: 200}, NOW_MS)
        await writer.write({0: outcome(*sent)}, {0: 400}, NOW_MS)
    found = read_committed(settings, settings.legit_topic)
    assert [message.value() for message in found] == [*sent, *sent]


async def test_a_new_owner_of_the_first_partition_fences(
    settings: DetectorSettings, read_committed: Read
) -> None:
    """The id that the former owner writes under is taken over: nothing of it is ever seen."""
    async with (
        member(settings) as membership,
        writer_of(settings, [0, 1], membership) as zombie,
        writer_of(settings, [0], membership) as owner,
    ):
        await zombie.take_over()
        await owner.take_over()
        with pytest.raises(FencedError):
            await zombie.write({1: outcome(b"zombie")}, {1: 1}, NOW_MS)
        await owner.write({0: outcome(b"owner")}, {0: 1}, NOW_MS)
    assert values(read_committed, settings) == [b"owner"]


async def test_a_later_generation_keeps_a_former_owner_of_any_partition_out(
    settings: DetectorSettings, read_committed: Read
) -> None:
    """Who takes over another partition than the first does not touch that id; the group does."""
    async with AsyncExitStack() as stack:
        async with member(settings) as before:
            zombie = await stack.enter_async_context(writer_of(settings, [0, 1], before))
            await zombie.take_over()
        now = await stack.enter_async_context(member(settings))
        owner = await stack.enter_async_context(writer_of(settings, [1], now))
        assert await owner.take_over() == {1: None}
        with pytest.raises(FencedError, match="group"):
            await zombie.write({1: outcome(b"zombie")}, {1: 1}, NOW_MS)
        await owner.write({1: outcome(b"owner")}, {1: 1}, NOW_MS)
        async with writer_of(settings, [0], now) as other:  # settles what the zombie left open
            await other.take_over()
    assert values(read_committed, settings) == [b"owner"]


@pytest.mark.parametrize("committed", [True, False])
async def test_offsets_are_awaited_that_an_open_transaction_may_change(
    settings: DetectorSettings, *, committed: bool
) -> None:
    """An owner that had all but committed: the next one waits for how that ends."""
    async with (
        member(settings) as membership,
        writer_of(settings, [0, 1], membership) as first,
        writer_of(settings, [1], membership) as second,
    ):
        await first.take_over()
        await first.write({1: outcome(b"a")}, {1: 3}, NOW_MS)
        [row] = first._rows({1: outcome(b"b")}, NOW_MS)
        await first._transactions.append(row)
        await first._transactions.add_offsets({1: 4}, membership)
        waiting = asyncio.create_task(second.take_over())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        if committed:
            await first._transactions.commit()
        else:
            async with writer_of(settings, [0], membership) as fencing:
                await fencing.take_over()
        assert await waiting == {1: 4 if committed else 3}


async def test_a_worker_that_no_broker_lets_in_ends(settings: DetectorSettings) -> None:
    """Its group may keep it meanwhile, over the connection that it has: nobody else would work."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens there
        address = f"127.0.0.1:{held.getsockname()[1]}"
        alone = settings.model_copy(
            update={"kafka_broker_url": address, "detector_deadline_seconds": 0.1}
        )
        worker = Worker(
            alone,
            [TopicPartition(settings.transactions_topic, 0)],
            membership=Membership(settings.detector_group, 1, "member"),
            rules=RulesSource(None),
            metrics=Metrics(),
        )
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(BrokerUnreachableError):
                await worker.run()


async def test_a_fenced_worker_ends(settings: DetectorSettings, read_committed: Read) -> None:
    """Once another worker has its partitions, a worker writes no more and gives up."""
    sent = [Transaction(f"t-{n}", f"account-{n}", "bob", 1) for n in range(40)]  # type: ignore[arg-type]
    places = [TopicPartition(settings.transactions_topic, number) for number in range(4)]

    def worker(membership: Membership) -> tuple[Worker, Metrics]:
        metrics = Metrics()
        made = Worker(
            settings,
            places,
            membership=membership,
            rules=RulesSource(None),
            metrics=metrics,
        )
        return made, metrics

    async with member(settings) as membership:
        first, before = worker(membership)
        zombie = asyncio.create_task(first.run())
        await produce(settings, *sent[:20])
        await until(lambda: before.records == 20)
        second, after = worker(membership)
        owner = asyncio.create_task(second.run())
        await until(lambda: after.rebuilds == 4)
        await produce(settings, *sent[20:])
        with pytest.raises(FencedError):
            await zombie
        await until(lambda: after.records == 20)
        second.stop()
        await owner
    found = [decode_verdict(value).transaction_id for value in values(read_committed, settings)]
    assert sorted(found) == sorted(each.transaction_id for each in sent)
