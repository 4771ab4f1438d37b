"""How streams end: slow clients, a draining gateway, a broker that goes and comes back."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from api.streams.position import FRAUD, LEGIT
from tests.cluster import Cluster
from tests.conftest import topic_settings
from tests.streaming import DEADLINE_S, GatewayProcess, Writer, gateways, reading, writing
from wire import topics
from wire.settings import KafkaSettings

BIG = {f"note-{n}": "x" * 250 for n in range(10)}
"""Of a verdict of three kilobytes: megabytes of few, for each takes its time in all processes."""
BATCH = 250
"""So many make 0.8 MB."""


@contextlib.contextmanager
def never_reading(gateway: GatewayProcess, count: int, path: str) -> Iterator[list[socket.socket]]:
    """Open streams whose clients take nothing."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", gateway.port))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            opened.append(client)
        yield opened


async def test_streams_end_in_order_at_shutdown(kafka_settings: KafkaSettings) -> None:
    """A client that reads gets the end of its response, and the process ends with code 0."""
    with gateways(kafka_settings) as (gateway,):
        await gateway.ready()
        async with reading(gateway.url, "/stream/all") as reader:
            await reader.block()
            stopping = asyncio.create_task(gateway.stop())
            with pytest.raises(EOFError):  # and not a connection error
                await reader.event()
            assert await stopping < 4
        assert gateway.process is not None
        assert gateway.process.returncode == 0


async def test_clients_that_stopped_reading_do_not_hold_up_the_shutdown(
    kafka_settings: KafkaSettings,
) -> None:
    """They are cut off within the grace period, with megabytes waiting for them."""
    async with writing(kafka_settings, kafka_settings.legit_topic) as writer:
        with gateways(kafka_settings, stream_queue_bytes=64 << 20) as (gateway,):
            await gateway.ready()
            with never_reading(gateway, 20, "/stream/legit"):
                async with reading(gateway.url, "/stream/legit", account="anna") as reader:
                    await reader.block()
                    for _ in range(10):
                        await writer.write(LEGIT, *([0] * BATCH), metadata=BIG)
                    await reader.ids(10 * BATCH)
                assert await gateway.stop() < 5


async def test_a_client_that_falls_behind_is_let_go_and_resumes(
    kafka_settings: KafkaSettings,
) -> None:
    """It is disconnected with its position whole; another client sees all meanwhile."""
    async with writing(kafka_settings, kafka_settings.legit_topic) as writer:
        with gateways(kafka_settings, stream_queue_bytes=1 << 20) as (gateway,):
            await gateway.ready()
            with never_reading(gateway, 1, "/stream/legit") as (slow,):
                async with reading(gateway.url, "/stream/legit") as reader:
                    await reader.block()
                    await reader.block()
                    seen = await whole(reader, writer, 16)
                received = await asyncio.to_thread(drained, slow)
            assert seen == [f"1-0-{n}" for n in range(16 * BATCH)]
            # TCP gives what was in flight, then the reset; what was not sent is not there.
            *blocks, _cut = received.split(b"\n\n")
            last = max(n for n, block in enumerate(blocks) if b"id: " in block)
            last_id = blocks[last].partition(b"id: ")[2].partition(b"\n")[0].decode()
            got = sum(b"data: " in block for block in blocks[: last + 1])
            assert got < 16 * BATCH
            async with reading(gateway.url, "/stream/legit", last_id) as again:
                assert await again.ids(16 * BATCH - got) == seen[got:]


async def test_a_client_that_takes_nothing_is_counted_as_stalled(
    kafka_settings: KafkaSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And is on record so, not as one that left."""
    audit = tmp_path / "audit.log"
    async with writing(kafka_settings, kafka_settings.legit_topic) as writer:
        for _ in range(4):
            await writer.write(LEGIT, *([0] * BATCH), metadata=BIG)
        with gateways(kafka_settings, stream_stall_seconds=0.5, audit_log=audit) as (gateway,):
            await gateway.ready()
            with never_reading(gateway, 2, "/stream/legit?since=earliest"):
                async with aiohttp.ClientSession(gateway.url) as client:
                    async with asyncio.timeout(DEADLINE_S):
                        while 'ends_total{cause="stalled",worker="1"} 2' not in await numbers(
                            client
                        ):
                            assert 'ends_total{cause="client",worker="1"} 0' in await numbers(
                                client
                            )
    lines = map(json.loads, audit.read_text().splitlines())
    ended = [line["cause"] for line in lines if line["event"] == "stream-closed"]
    assert ended == ["stalled", "stalled"]
    assert "without completing" not in capfd.readouterr().err


async def test_a_client_that_leaves_ends_no_other_stream(kafka_settings: KafkaSettings) -> None:
    """Neither when it goes while verdicts come, nor with a request of its own waiting behind."""
    ask = "GET /stream/legit HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with writing(kafka_settings, kafka_settings.legit_topic) as writer:
        with gateways(kafka_settings) as (gateway,):
            await gateway.ready()
            async with reading(gateway.url, "/stream/legit") as reader:
                await reader.block()
                for requests in (ask, ask + ask.replace("/stream/legit", "/healthz")):
                    with socket.create_connection(("127.0.0.1", gateway.port)) as leaving:
                        leaving.sendall(requests.encode())
                        received = b""
                        while b"id: " not in received:
                            received += await asyncio.to_thread(leaving.recv, 4096)
                    await writer.write(LEGIT, *([0] * 5))
                seen = await reader.ids(10)
                for _ in range(10):
                    await writer.write(LEGIT, 0)
                    seen += await reader.ids(1)
    assert seen == [f"1-0-{n}" for n in range(20)]


async def test_a_client_may_come_before_kafka_is_up(broker_that_is_down: Cluster) -> None:
    """It waits, and the stream begins when there is one."""
    settings = topic_settings(broker_that_is_down.address)
    with gateways(settings, stream_heartbeat_seconds=0.2) as (gateway,):
        async with reading(gateway.url, "/stream/fraud") as reader:
            assert (await reader.block()).get("retry")
            assert (await reader.block()).fields == [("", "heartbeat")]
            await broker_that_is_down.start()
            await topics.ensure(settings)
            while reader.last_id is None:
                await reader.block()
            async with writing(settings, "writer") as writer:
                await writer.write(FRAUD, 0)
                assert await reader.ids(1) == ["0-0-0"]


async def test_streams_outlive_a_broker_restart(own_broker: Any, own_settings: Any) -> None:
    """Clients stay connected while Kafka is away, and get what comes after."""
    with gateways(own_settings) as (gateway,):
        await gateway.ready()
        async with reading(gateway.url, "/stream/fraud") as reader:
            await reader.block()
            await reader.block()
            async with writing(own_settings, "before") as writer:
                await writer.write(FRAUD, 0)
                assert await reader.ids(1) == ["0-0-0"]
                old = reader.last_id
            own_broker.kill()
            async with reading(gateway.url, "/stream/fraud") as meanwhile:
                await meanwhile.block()
                await own_broker.start()
                async with writing(own_settings, "after") as again:
                    again.offsets = writer.offsets
                    await again.write(FRAUD, 0, 1, 2, 3)
                    expected = ["0-0-1", "0-1-0", "0-2-0", "0-3-0"]
                    assert sorted(await reader.ids(4)) == expected
                    assert sorted(await meanwhile.ids(4)) == expected
            async with reading(gateway.url, "/stream/fraud", old) as resumed:
                assert sorted(await resumed.ids(4)) == expected


async def numbers(client: aiohttp.ClientSession) -> str:
    """Give the gateway's numbers."""
    async with client.get("/metrics") as answer:
        return await answer.text()


async def whole(reader: Any, writer: Writer, batches: int) -> list[str]:
    """Write and read batches of verdicts at once."""
    reading_all = asyncio.create_task(reader.ids(batches * BATCH))
    for _ in range(batches):
        await writer.write(LEGIT, *([0] * BATCH), metadata=BIG)
    return list(await reading_all)


def drained(client: socket.socket) -> bytes:
    """Read a socket to its end."""
    client.settimeout(DEADLINE_S)
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 20):
            received += data
    return received
