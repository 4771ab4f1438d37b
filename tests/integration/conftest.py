"""Gateways for the tests: the real application on a real socket, in the test's event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest
import uvicorn
from confluent_kafka import Consumer, TopicPartition

from api import app, listener
from api.protocol import Protocol
from api.settings import ApiSettings
from wire.messages import Transaction, decode_transaction
from wire.settings import KafkaSettings

DEADLINE_S = 20

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@contextlib.asynccontextmanager
async def serve(
    kafka: KafkaSettings, *, ready: bool = True, **given: object
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a gateway with these settings; give a client of it, once it is ready."""
    settings = ApiSettings(**(kafka.model_dump() | {"api_event_loop": "asyncio"} | given))
    sock = listener.bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app.create(settings), http=Protocol, ws="none", log_config=None, lifespan="on",
        timeout_graceful_shutdown=settings.api_shutdown_grace_seconds,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server.serve(sockets=[sock]))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            await wait_until(lambda: _answers(client, "/readyz" if ready else "/healthz"))
            yield client
    finally:
        config.app.state.gateway.drain()
        server.should_exit = True
        await running
        sock.close()


async def wait_until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for is outside this loop
            await asyncio.sleep(0.02)


def read_all(settings: KafkaSettings) -> list[tuple[int, int, Transaction]]:
    """Read the whole transactions topic: partition, offset, transaction.

    With librdkafka: another client than the one that wrote it.
    """
    topic = settings.transactions_topic
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka_broker_url, "group.id": "unused", "check.crcs": True}
    )
    try:
        partitions = consumer.list_topics(topic, DEADLINE_S).topics[topic].partitions
        found = []
        for partition in sorted(partitions):
            at = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(at, DEADLINE_S)
            consumer.assign([at])
            for _ in range(end):
                message = consumer.poll(DEADLINE_S)
                assert message is not None
                assert message.error() is None
                transaction = decode_transaction(message.value() or b"")
                assert message.key() == transaction.source.encode()
                found.append((partition, message.offset() or 0, transaction))
        return found
    finally:
        consumer.close()


@pytest.fixture
def serve_gateway() -> Serve:
    """Give `serve`: an async context manager around a gateway of its own settings."""
    return serve


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]:
    """Give `wait_until`."""
    return wait_until


@pytest.fixture
def stored(kafka_settings: KafkaSettings) -> Callable[[], Awaitable[list[Any]]]:
    """Give a function that reads this test's whole transactions topic."""
    return lambda: asyncio.to_thread(read_all, kafka_settings)


@pytest.fixture
async def gateway(kafka_settings: KafkaSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a ready gateway on this test's own topics."""
    async with serve(kafka_settings) as client:
        yield client


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await client.get(path)).is_success
    return False
