"""Gateways for the tests: the real application on a real socket, in the test's event loop."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, TopicPartition
from starlette.types import ASGIApp

from api import app, listener
from api.server import configured
from api.settings import ApiSettings
from tests import forked
from tests.conftest import make_topics
from tests.guarded import Guarded, guard
from tests.parts import Parts
from tests.processes import Programs, programs
from tests.streaming import Writer, writing
from tests.trust import TRUST
from wire import kafka
from wire.messages import Transaction, Verdict, decode_transaction, encode
from wire.settings import KafkaSettings, TopicSettings

DEADLINE_S = 20

TOPICS = ("transactions", "legit", "fraud", "dead_letter")
StartGateway = Callable[..., AbstractContextManager[str]]
Decide = Callable[..., Awaitable[Verdict]]
Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
ServeKnown = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, app.Application]]]


@contextlib.asynccontextmanager
async def serve(
    kafka: KafkaSettings,
    *,
    ready: bool = True,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda inner: inner,
    **given: object,
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a gateway with these settings; give a client of it, once it is ready.

    `wrap` may put something round the application.
    """
    settings = ApiSettings(**(kafka.model_dump() | {"api_event_loop": "asyncio"} | given))
    sock = listener.bind("127.0.0.1", 0)
    application = app.create(settings)
    config = configured(wrap(application), application.gateway)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30, verify=TRUST) as client:
            await wait_until(lambda: _answers(client, "/readyz" if ready else "/healthz"))
            yield client
    finally:
        application.gateway.drain()
        server.should_exit = True
        await running
        sock.close()


@contextlib.asynccontextmanager
async def serve_known(
    kafka: KafkaSettings, **given: object
) -> AsyncIterator[tuple[httpx.AsyncClient, app.Application]]:
    """Serve a gateway as `serve` does; give its application, too."""
    known: list[Any] = []

    def keep(application: ASGIApp) -> ASGIApp:
        known.append(application)
        return application

    async with serve(kafka, wrap=keep, **given) as client:
        yield client, known[0]


async def wait_until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def gateway_process(kafka: KafkaSettings, **given: object) -> Iterator[str]:
    """Run a gateway as a process of its own; give its URL, once it is ready."""
    sock = listener.bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    names = ("kafka_broker_url", "transactions_topic", "legit_topic", "fraud_topic")
    settings = {name: getattr(kafka, name) for name in names} | given
    process = forked.start(
        "api",
        *("--api-fd", str(sock.fileno())),
        env=os.environ | {name.upper(): str(value) for name, value in settings.items()},
        fds=[sock.fileno()],
    )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not httpx.get(f"{url}/readyz", timeout=DEADLINE_S, verify=TRUST).is_success:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        sock.close()


def read_all(settings: KafkaSettings) -> list[tuple[int, int, Transaction]]:
    """Read the whole transactions topic: partition, offset, transaction.

    With librdkafka: another client than the one that wrote it.
    """
    topic = settings.transactions_topic
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_broker_url,
            "group.id": "unused",
            "check.crcs": True,
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        places = [
            TopicPartition(topic, partition, 0)
            for partition in consumer.list_topics(topic, DEADLINE_S).topics[topic].partitions
        ]
        records = sum(consumer.get_watermark_offsets(place, DEADLINE_S)[1] for place in places)
        consumer.assign(places)
        found: list[tuple[int, int, Transaction]] = []
        while len(found) < records:
            for message in consumer.consume(records - len(found), DEADLINE_S):
                transaction = decode_transaction(message.value() or b"")
                assert message.key() == transaction.source.encode()
                found.append((message.partition() or 0, message.offset() or 0, transaction))
        return found
    finally:
        consumer.close()


@pytest.fixture(params=["version 2", "version 1"])
def transactions_version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions of Kafka's transactions, whatever the cluster could do."""
    if request.param == "version 1":

        async def speaks_no_version_2(_client: Any) -> bool:
            return False

        monkeypatch.setattr("detector.requests.speaks_version_2", speaks_no_version_2)


@pytest.fixture
def serve_gateway() -> Serve:
    """Give `serve`: an async context manager around a gateway of its own settings."""
    return serve


@pytest.fixture(scope="session")
def serve_application() -> ServeKnown:
    """Give `serve_known`: as `serve_gateway`, with a view of the application from within."""
    return serve_known


@pytest.fixture(scope="session")
def start_gateway() -> StartGateway:
    """Give `gateway_process`: a context manager around a process with settings of its own."""
    return gateway_process


@pytest.fixture(scope="session")
def shared_settings(kafka_address: str) -> TopicSettings:
    """Settings for tests that need no topics of their own."""
    settings = TopicSettings(
        kafka_broker_url=kafka_address,
        **{f"{name}_topic": f"shared.{name}" for name in TOPICS},
    )
    make_topics(settings)
    return settings


@pytest.fixture(scope="session")
def gateway_url(shared_settings: TopicSettings) -> Iterator[str]:
    """One gateway process for all tests that need no topics of their own: its URL."""
    with gateway_process(shared_settings) as url:
        yield url


@pytest.fixture
async def shared_gateway(gateway_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the gateway that all tests share."""
    async with httpx.AsyncClient(base_url=gateway_url, timeout=30, verify=TRUST) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, shared_settings: TopicSettings
) -> Iterator[Guarded]:
    """A gateway process that asks who comes, for all tests of a module."""
    keys, given = guard(tmp_path_factory.mktemp("access"))
    with gateway_process(shared_settings, **given) as url:
        yield Guarded(url, keys)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Programs]:
    """Start programs, which are ended with the test."""
    with programs(tmp_path) as made:
        yield made


@pytest.fixture
def parts(kafka_settings: TopicSettings) -> Iterator[Parts]:
    """Run parts on topics of this test's own; they are killed at its end."""
    with contextlib.ExitStack() as held:
        made = Parts(kafka_settings, held)
        yield made
        for process in made.running:
            process.kill()
            process.wait()


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]:
    """Give `wait_until`."""
    return wait_until


@pytest.fixture
def read_stored() -> Callable[[KafkaSettings], Awaitable[list[Any]]]:
    """Give a function that reads the whole transactions topic of some settings."""
    return lambda settings: asyncio.to_thread(read_all, settings)


@pytest.fixture
def stored(kafka_settings: KafkaSettings) -> Callable[[], Awaitable[list[Any]]]:
    """Give a function that reads this test's whole transactions topic."""
    return lambda: asyncio.to_thread(read_all, kafka_settings)


@pytest.fixture
async def decide(kafka_settings: KafkaSettings) -> AsyncIterator[Decide]:
    """Give a function that writes a verdict to Kafka, as a detector does."""
    producer: AIOKafkaProducer = await kafka.start(lambda: kafka.producer(kafka_settings))

    async def verdict(transaction_id: str, source: str = "acc-1") -> Verdict:
        now = datetime.now(UTC)
        verdict = Verdict(
            transaction_id=transaction_id, source=source, target="shop", amount=Decimal("900.01"),
            currency="EUR", decision="fraud", score=100, reasons=(), rules_version="1",
            received_at=now, decided_at=now,
        )  # fmt: skip
        value = encode(verdict)
        await producer.send_and_wait(kafka_settings.fraud_topic, value, source.encode())
        return verdict

    yield verdict
    await producer.stop()


@pytest.fixture
async def writer(kafka_settings: KafkaSettings) -> AsyncIterator[Writer]:
    """A writer of verdicts to this test's own topics."""
    async with writing(kafka_settings, kafka_settings.legit_topic) as writer:
        yield writer


@pytest.fixture
async def gateway(kafka_settings: KafkaSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a ready gateway on this test's own topics."""
    async with serve(kafka_settings) as client:
        yield client


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await client.get(path)).is_success
    return False
