"""Starting a Kafka client against what is no broker, or not yet."""

import asyncio
import gc

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


async def test_a_start_that_is_broken_off_fails_in_silence() -> None:
    """It goes on behind who has given it up, to close its connection; nothing is logged of that."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    asked, over = asyncio.Event(), asyncio.Event()

    async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await over.wait()
        writer.close()

    async with await asyncio.start_server(cut_off, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = kafka.client(KafkaSettings(kafka_broker_url=f"127.0.0.1:{port}"), ())
        starting = asyncio.create_task(client.start())
        await asked.wait()
        starting.cancel()
        await asyncio.wait({starting})
        over.set()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)
        await client.stop()
    gc.collect()
    assert told == []
