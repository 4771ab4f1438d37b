"""Clients that drop and resume at random, on gateways that are restarted and killed.

The long form (FRAUDSTREAM_CHAOS=full) is 50 clients, 20 drops each, 60 s at 1000 verdicts/s.
"""

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest

from api.streams.position import FRAUD, LEGIT, STREAMS, decode
from tests.streaming import PARTITIONS, GatewayProcess, Writer, gateways, writing
from wire.settings import KafkaSettings

FULL = os.environ.get("FRAUDSTREAM_CHAOS") == "full"
CLIENTS, DROPS, SECONDS, RATE = (50, 20, 60.0, 1000) if FULL else (12, 6, 6.0, 400)
AWAY_S = 1.0
"""Longest time between two connections: beyond what the rings hold."""
DRAIN_S = 60
BATCH_S = 0.02
TRANSACTION_ID = re.compile(rb'"transaction_id":"(\d)-(\d)-(\d+)"')


@dataclass
class Client:
    """Follows one stream, through any number of connections."""

    stream: str
    writer: Writer
    last_id: str | None = None
    seen: dict[tuple[int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    """Offsets, by topic index and partition, in the order in which they came."""
    starts: dict[tuple[int, int], int] = field(default_factory=dict)
    """Where the first id stood."""
    connections: int = 0

    async def follow(self, gateways: list[GatewayProcess], drops: list[float]) -> None:
        """Read, dropping the connection at the times given, until everything written is seen."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            for drop_at in [*drops, float("inf")]:
                while time.monotonic() < drop_at:
                    with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                        await self._connection(session, random.choice(gateways), drop_at)
                    if drop_at == float("inf") and self.complete:
                        return
                    await asyncio.sleep(random.choice((0, 0.05, AWAY_S)))

    @property
    def complete(self) -> bool:
        """True when the last verdict of every partition was seen."""
        return WRITTEN.is_set() and all(
            (self.seen[key] or [self.starts.get(key, 0) - 1])[-1] >= offsets[-1]
            for key, offsets in self.writer.offsets.items()
            if key[0] in STREAMS[self.stream]
        )

    async def _connection(
        self, session: aiohttp.ClientSession, gateway: GatewayProcess, drop_at: float
    ) -> None:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        self.connections += 1
        rest = b""
        async with session.get(f"{gateway.url}/stream/{self.stream}", headers=headers) as response:
            if response.status != 200:
                assert response.status == 503, await response.text()
                return
            async for data in until(response, drop_at):
                *blocks, rest = (rest + data).split(b"\n\n")
                for block in blocks:
                    self._take(block)
                if WRITTEN.is_set() and drop_at == float("inf") and self.complete:
                    break
            response.close()

    def _take(self, block: bytes) -> None:
        if block.startswith(b"event: gap") or b"\nevent: gap" in block:
            raise AssertionError(block)
        if not block.startswith(b"id: "):
            return
        self.last_id = block[4:].partition(b"\n")[0].decode()
        if found := TRANSACTION_ID.search(block):
            topic, partition, number = map(int, found.groups())
            position = decode(self.last_id)
            self.seen[topic, partition].append(position.vectors[topic][partition] - 1)
            self.numbers.append((topic, partition, number))
        elif not self.starts:
            for topic, vector in decode(self.last_id).vectors.items():
                for partition, offset in enumerate(vector):
                    self.starts[topic, partition] = offset

    numbers: list[tuple[int, int, int]] = field(default_factory=list)
    """Topic, partition and running number in it, as they came."""


WRITTEN = asyncio.Event()


async def until(response: aiohttp.ClientResponse, deadline: float) -> AsyncIterator[bytes]:
    """Read what comes until the stream ends or it is time to drop it."""
    while True:
        left = min(deadline - time.monotonic(), 1.0)
        if left <= 0:
            return
        try:
            async with asyncio.timeout(left):
                data = await response.content.readany()
        except TimeoutError:
            yield b""
            continue
        if not data:
            return
        yield data


@pytest.mark.timeout(SECONDS + DRAIN_S + 60)
async def test_every_client_sees_every_offset_once_and_in_order(
    kafka_settings: KafkaSettings,
) -> None:
    """Through drops, a restart, a kill, two processes, ring and replay: nothing lost or doubled."""
    WRITTEN.clear()
    # Small memories, so that some resume from the ring and some from Kafka.
    memory = {"stream_ring_events": RATE // 2, "stream_tail_records": RATE // 8}
    with gateways(kafka_settings, 2, **memory) as processes:
        for process in processes:
            await process.ready()
        async with writing(kafka_settings, kafka_settings.fraud_topic) as writer:
            clients = [Client(random.choice(list(STREAMS)), writer) for _ in range(CLIENTS)]
            async with asyncio.timeout(SECONDS + DRAIN_S), asyncio.TaskGroup() as group:
                now = time.monotonic()
                for client in clients:
                    drops = sorted(now + random.uniform(0, SECONDS) for _ in range(DROPS))
                    group.create_task(client.follow(processes, drops))
                group.create_task(trouble(processes))
                await write(writer)
                WRITTEN.set()
    for client in clients:
        check(client, writer)
    assert sum(client.connections for client in clients) >= CLIENTS * DROPS // 2


async def write(writer: Writer) -> None:
    """Write at the rate, a tenth of it fraud."""
    began = time.monotonic()
    sent = 0
    while (passed := time.monotonic() - began) < SECONDS:
        # Of a busy machine that has fallen behind, no more than a transaction may take.
        due = min(int(passed * RATE) - sent, RATE)
        legit = [random.randrange(PARTITIONS) for _ in range(due - due // 10)]
        if legit:
            await writer.write(LEGIT, *legit)
        if due >= 10:
            await writer.write(FRAUD, *[random.randrange(PARTITIONS) for _ in range(due // 10)])
        sent += due
        await asyncio.sleep(BATCH_S)
    for partition in range(PARTITIONS):
        await writer.write(FRAUD, partition)
        await writer.write(LEGIT, partition)


async def trouble(processes: list[GatewayProcess]) -> None:
    """Restart one gateway, kill the other."""
    await asyncio.sleep(SECONDS * 0.3)
    await processes[0].stop(signal.SIGTERM)
    processes[0].start()
    await asyncio.sleep(SECONDS * 0.2)
    await processes[1].stop(signal.SIGKILL)
    processes[1].start()


def check(client: Client, writer: Writer) -> None:
    """Compare what a client saw with what was written from its first position on."""
    for key, offsets in writer.offsets.items():
        if key[0] not in STREAMS[client.stream]:
            continue
        first = client.starts[key]
        assert client.seen[key] == [offset for offset in offsets if offset >= first]
        numbers = [n for topic, partition, n in client.numbers if (topic, partition) == key]
        assert numbers == list(range(len(offsets)))[len(offsets) - len(numbers) :]
