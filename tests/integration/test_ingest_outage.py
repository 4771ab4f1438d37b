"""POST /transactions while Kafka is away, comes back, hangs or grows: answers stay honest."""

import asyncio
import contextlib
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from aiokafka.admin import NewPartitions
from structlog.testing import capture_logs

from api.errors import NotAcknowledgedError, ShuttingDownError
from api.ingest.outbox import Outbox
from api.ingest.partitioning import partitioner
from api.ingest.producer import Producer
from api.settings import ApiSettings
from tests.cluster import Cluster
from tests.conftest import topic_settings
from tests.trust import TRUST
from wire import kafka, topics
from wire.posted import accept
from wire.settings import TopicSettings

LOADERS = 16


def posted(transaction_id: str) -> dict[str, Any]:
    """Give a transaction; the accounts go round the partitions."""
    source = f"acc-{hash(transaction_id) % 50}"
    return {"transaction_id": transaction_id, "source": source, "target": "shop", "amount": 1}


class Load:
    """Clients that post one transaction after another and note each answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, int] = {}
        self.codes = Counter[str]()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._post(n)) for n in range(LOADERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def accepted(self) -> set[str]:
        """Give the ids that were answered 202."""
        return {name for name, status in self.answers.items() if status == 202}

    async def more(self, accepted: int = 50) -> None:
        """Wait until so many more were accepted."""
        wanted = len(self.accepted()) + accepted
        async with asyncio.timeout(30):
            while len(self.accepted()) < wanted:
                await asyncio.sleep(0.02)

    async def _post(self, loader: int) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=60, verify=TRUST) as client:
            number = 0
            while True:
                number += 1
                name = f"{loader}-{number}"
                response = await client.post("/transactions", json=posted(name))
                self.answers[name] = response.status_code
                if response.status_code != 202:
                    self.codes[response.json()["code"]] += 1
                    await asyncio.sleep(0.02)


def check(load: Load, stored: list[Any]) -> None:
    """Hold the answers against what lies in Kafka."""
    found = Counter(transaction.transaction_id for _, _, transaction in stored)
    assert load.accepted() - found.keys() == set()
    assert {name for name, times in found.items() if times > 1} == set()
    assert set(load.answers.values()) == {202, 503}


@dataclass(frozen=True)
class Outage:
    """A way for a broker to be away, and what a request under way may then be answered."""

    begin: Callable[[Any], None]
    end: Callable[[Any], Awaitable[None]]
    codes: frozenset[str]


async def wake(broker: Any) -> None:
    """Let a broker that hangs go on."""
    broker.processes[1].send_signal(signal.SIGCONT)


OUTAGES = {
    "killed": Outage(lambda broker: broker.kill(), lambda broker: broker.start(), frozenset()),
    "hanging": Outage(
        lambda broker: broker.processes[1].send_signal(signal.SIGSTOP),
        wake,
        frozenset({"not-acknowledged"}),
    ),
}


async def test_without_kafka_the_answer_is_503(
    broker_that_is_down: Cluster,
    serve_gateway: Callable[..., Any],
    until: Callable[..., Awaitable[None]],
) -> None:
    """A gateway starts without Kafka, says 503 and when to try again, and goes on by itself."""
    settings = topic_settings(broker_that_is_down.address)
    async with serve_gateway(settings, ready=False) as client:
        one = await client.post("/transactions", json=posted("t1"))
        many = await client.post("/transactions", json=[posted("t2"), posted("t3")])
        await broker_that_is_down.start()
        await topics.ensure(settings)

        async def accepted() -> bool:
            return (await client.post("/transactions", json=posted("t4"))).status_code == 202

        await until(accepted)

    problem = one.json()
    assert (one.status_code, problem["code"]) == (503, "kafka-unavailable")
    assert (problem["retriable"], problem["transaction_id"]) == (True, "t1")
    assert int(one.headers["Retry-After"]) > 0
    assert (many.status_code, many.json()["rejected"]) == (503, 2)


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
async def test_every_202_survives_an_outage(
    outage: Outage,
    own_broker: Any,
    own_settings: TopicSettings,
    start_gateway: Callable[..., Any],
    read_stored: Callable[[TopicSettings], Awaitable[list[Any]]],
) -> None:
    """The broker goes away in mid-load and comes back: no 202 is lost, no record is there twice.

    What is under way when it stops answering is told as unknown.
    """
    with start_gateway(own_settings, delivery_timeout=1.0) as url:
        async with Load(url) as load:
            await load.more()
            outage.begin(own_broker)
            await until_refused(load)
            await outage.end(own_broker)
            await load.more()

    assert outage.codes <= load.codes.keys()
    check(load, await read_stored(own_settings))


async def test_new_partitions_are_used(kafka_settings: TopicSettings) -> None:
    """Partitions that are added to the topic get records as soon as aiokafka knows of them."""
    topic = kafka_settings.transactions_topic
    outbox = Outbox(ApiSettings(**kafka_settings.model_dump()))
    outbox.start()
    producer = await outbox._link.producer()
    client = await kafka.start(lambda: kafka.admin(kafka_settings))
    await client.create_partitions({topic: NewPartitions(6)})
    await kafka.close(client)

    used: set[int] = set()
    async with asyncio.timeout(20):
        while used != set(range(6)):
            await producer.client.force_metadata_update()
            batches = {outbox.put(b"acc-%d" % n, b"{}")[0] for n in range(50)}
            await asyncio.gather(*(batch.landed() for batch in batches))
            used |= {batch.partition for batch in batches if batch.error is None}

    await outbox.stop(5)
    assert outbox.bytes_in_flight == 0


async def test_a_producer_that_failed_is_replaced(
    kafka_settings: TopicSettings, stored: Callable[[], Awaitable[list[Any]]]
) -> None:
    """What it had is told as unknown; what comes next goes to a new one."""
    outbox = Outbox(ApiSettings(**kafka_settings.model_dump()))
    outbox.start()
    broken = await outbox._link.producer()
    first, second, third = (
        accept(json.dumps(posted(name) | {"source": "acc"}).encode()) for name in ("1", "2", "3")
    )
    batch, index = outbox.put(first.key, first.value)
    await batch.landed()
    assert batch.offset(index) == 0
    broken._sequences[batch.partition] = 5  # Kafka refuses a gap
    batch, index = outbox.put(second.key, second.value)
    await batch.landed()
    with pytest.raises(NotAcknowledgedError, match="same transaction_id"):
        batch.offset(index)

    assert await outbox._link.producer() is not broken
    [batch] = outbox.put_all([third.key], [third.value])
    await batch.landed()
    assert batch.offset(0) == 1
    await outbox.stop(5)
    assert [transaction.transaction_id for _, _, transaction in await stored()] == ["1", "3"]


async def test_whatever_fails_while_it_connects_the_gateway_tries_again(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what no client of Kafka's raises on purpose, such as uvloop's RuntimeError."""
    outbox = Outbox(ApiSettings(**kafka_settings.model_dump()))
    make = outbox._link._make
    failures = [RuntimeError("the transport is closed")]

    def fail_once() -> Producer:
        if failures:
            raise failures.pop()
        return make()

    monkeypatch.setattr(outbox._link, "_make", fail_once)
    with capture_logs() as logged:
        outbox.start()
        async with asyncio.timeout(20):
            await outbox._link.producer()
    await outbox.stop(5)
    assert [line["event"] for line in logged] == ["kafka link failed", "connected to kafka"]


async def test_nothing_is_taken_that_nobody_delivers(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where delivering has ended by a failure, the gateway is not ready, and says why.

    A record that waited for its turn is given up at once, not when its time is over.
    """
    outbox = Outbox(ApiSettings(**kafka_settings.model_dump()))
    outbox.start()
    producer = await outbox._link.producer()
    ready = outbox.ready
    monkeypatch.setattr(producer, "send", None)
    with capture_logs() as logged:
        outbox.put(b"acc", b"{}")
        assert outbox._courier is not None
        await asyncio.wait([outbox._courier], timeout=20)
        await asyncio.sleep(0)
    assert (ready, outbox.ready) == (True, False)
    assert outbox.failed
    with pytest.raises(ShuttingDownError):
        outbox.put(b"acc", b"{}")
    assert [line["event"] for line in logged] == ["outbox failed"]
    await outbox.stop(0)


async def test_a_link_that_ends_unasked_is_a_failure(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by a cancellation from within aiokafka; one that is stopped has not failed."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    stopped, ended = (Outbox(ApiSettings(**kafka_settings.model_dump())) for _ in range(2))
    monkeypatch.setattr(ended._link, "_connect", cancelled)
    with capture_logs() as logged:
        for outbox in (stopped, ended):
            outbox.start()
        assert ended._link._keeper is not None
        await asyncio.wait([ended._link._keeper], timeout=20)
        for outbox in (stopped, ended):
            await outbox.stop(0)
    assert (stopped.failed, ended.failed) == (False, True)
    assert [line["event"] for line in logged].count("kafka link ended") == 1


async def test_of_many_lines_those_are_told_whose_partition_failed(
    kafka_settings: TopicSettings,
    serve_application: Callable[..., Any],
    stored: Callable[[], Awaitable[list[Any]]],
    until: Callable[..., Awaitable[None]],
) -> None:
    """Kafka refuses one partition's batch: its lines are told as unknown, the others accepted."""
    names = [f"t{n}" for n in range(40)]
    lines = "\n".join(json.dumps(posted(name)) for name in names).encode()
    async with serve_application(kafka_settings) as (client, application):
        producer = await application.gateway.ingest._outbox._link.producer()
        early = await client.post("/transactions", json=[posted(name) for name in names])
        producer._sequences[2] += 5  # Kafka refuses a gap after what it has had
        answer = await client.post(
            "/transactions", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )

        async def accepted() -> bool:  # by the producer that takes over
            return (await client.post("/transactions", json=posted("later"))).status_code == 202

        await until(accepted)

    results = answer.json()["results"]
    partition = partitioner(4, 100)
    failed = {n for n in names if partition(posted(n)["source"].encode()) == 2}
    told = {names[each["index"]]: each["status"] for each in results}
    assert (early.status_code, answer.status_code) == (202, 207)
    assert told == {name: 503 if name in failed else 202 for name in names}
    assert {each["error"]["code"] for each in results if each["status"] == 503} == {
        "not-acknowledged"
    }
    assert answer.json()["rejected"] == len(failed) > 0
    kept = Counter(transaction.transaction_id for _, _, transaction in await stored())
    assert kept == Counter(names) + Counter({*names, "later"} - failed)


async def test_a_stop_refuses_what_comes_and_keeps_what_came(
    kafka_settings: TopicSettings,
    serve_gateway: Callable[..., Any],
    stored: Callable[[], Awaitable[list[Any]]],
    until: Callable[..., Awaitable[None]],
) -> None:
    """A body that is on its way when the gateway stops is answered line by line."""
    begun = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield json.dumps(posted("early")).encode() + b"\n"
        await until(stored)
        begun.set()
        await until(stopping)
        yield json.dumps(posted("late")).encode()

    async def stopping() -> bool:
        try:
            _, writer = await asyncio.open_connection(url.host, url.port)
        except ConnectionError:  # refused; or reset, where it came while the socket closed
            return True
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return False

    async with serve_gateway(kafka_settings) as client:
        url = client.base_url
        own = httpx.AsyncClient(base_url=url, timeout=30, verify=TRUST)
        headers = {"Content-Type": "application/x-ndjson"}
        posting = asyncio.create_task(own.post("/transactions", content=body(), headers=headers))
        await begun.wait()
    answer = await posting
    await own.aclose()

    early, late = answer.json()["results"]
    assert (answer.status_code, early["status"], late["status"]) == (207, 202, 503)
    assert (late["error"]["code"], late["error"]["transaction_id"]) == ("shutting-down", "late")
    assert [transaction.transaction_id for _, _, transaction in await stored()] == ["early"]


async def test_a_stop_answers_bodies_that_do_not_come(
    kafka_settings: TopicSettings,
    serve_gateway: Callable[..., Any],
    stored: Callable[[], Awaitable[list[Any]]],
    until: Callable[..., Awaitable[None]],
) -> None:
    """With 503 before the grace is over; of lines that came it is told what became of them."""
    async with serve_gateway(kafka_settings, api_shutdown_grace_seconds=1) as client:
        readers = []
        for form, begun in (
            ("json", b"{"),
            ("x-ndjson", json.dumps(posted("t1")).encode() + b"\n"),
        ):
            head = "POST /transactions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
            url = client.base_url
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(f"{head}Content-Type: application/{form}\r\n\r\n".encode() + begun)
            readers.append((reader, writer))

        async def under_way() -> bool:
            told = (await client.get("/metrics")).text
            return 'fraudstream_api_requests_in_flight{worker="1"} 2.0' in told.splitlines()

        await until(under_way)
        await until(stored)
    answers = [await reader.read() for reader, _ in readers]
    for _, writer in readers:
        writer.close()

    one, lines = (json.loads(answer.partition(b"\r\n\r\n")[2]) for answer in answers)
    assert [problem["code"] for problem in (one, lines)] == ["shutting-down"] * 2
    assert [result["status"] for result in lines["results"]] == [202]
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)


async def test_a_stop_answers_what_is_in_flight(
    own_broker: Any, own_settings: TopicSettings, serve_gateway: Callable[..., Any]
) -> None:
    """A gateway that stops while Kafka hangs answers the requests under way: 503, unknown."""
    async with serve_gateway(own_settings, delivery_timeout=60) as client:
        url = client.base_url
        clients = [httpx.AsyncClient(base_url=url, timeout=30, verify=TRUST) for _ in range(8)]
        own_broker.processes[1].send_signal(signal.SIGSTOP)
        posting = [
            asyncio.create_task(each.post("/transactions", json=posted(f"t{n}")))
            for n, each in enumerate(clients)
        ]
        all_under_way = f'fraudstream_api_requests_in_flight{{worker="1"}} {len(posting):.1f}'
        async with asyncio.timeout(30):
            told = ""
            while all_under_way not in told.splitlines():
                await asyncio.sleep(0.02)
                told = (await client.get("/metrics")).text
    answers = await asyncio.gather(*posting)
    for each in clients:
        await each.aclose()
    own_broker.processes[1].send_signal(signal.SIGCONT)

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} <= {
        "not-acknowledged",
        "kafka-unavailable",
    }


async def until_refused(load: Load) -> None:
    """Wait until requests are answered 503."""
    async with asyncio.timeout(30):
        while not load.codes:
            await asyncio.sleep(0.02)
