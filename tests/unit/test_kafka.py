"""Starting a Kafka client against what is no broker, or not yet."""

import asyncio

import pytest

from wire import kafka
from wire.errors import BrokerUnreachableError
from wire.settings import KafkaSettings


async def test_an_address_that_never_answers_is_given_up_and_tried_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection without an answer does not hold the start up: each attempt has its time."""
    monkeypatch.setattr(kafka, "ATTEMPT_S", 0.1)
    attempts = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        await reader.read()  # until the client goes
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = KafkaSettings(kafka_broker_url=f"127.0.0.1:{port}")
        with pytest.raises(BrokerUnreachableError, match="no Kafka broker answers"):
            await kafka.start(lambda: kafka.admin(settings), patience=1.0)
    assert attempts > 1
