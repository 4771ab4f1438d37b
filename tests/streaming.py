"""What the tests of the streams share: writing verdicts, gateway processes, a client that reads."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions

from api import listener
from api.streams.position import FRAUD, LEGIT, Position, decode
from tests import forked
from wire import kafka, messages, topics
from wire.messages import Reason, Verdict
from wire.settings import KafkaSettings, TopicSettings

PARTITIONS = 4
DEADLINE_S = 30
STARTED = datetime(2026, 11, 23, 12, tzinfo=UTC)


def verdict(transaction_id: str, **given: Any) -> bytes:
    """Make a verdict."""
    fields: dict[str, Any] = {
        "transaction_id": transaction_id,
        "source": "anna",
        "target": "ben",
        "amount": Decimal("900.01"),
        "currency": "EUR",
        "decision": "legit",
        "score": 0,
        "reasons": (Reason("amount", "1", "amount 900.01 > 900"),),
        "rules_version": "1",
        "received_at": STARTED,
        "decided_at": STARTED,
    }
    return messages.encode(Verdict(**(fields | given)))


@dataclass
class Writer:
    """Writes verdicts by transactions, as the detector does; remembers where each one went."""

    producer: AIOKafkaProducer
    names: dict[int, str]
    offsets: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    """Offsets of the committed verdicts, by topic index and partition."""

    async def write(
        self, topic: int, *partitions: int, at_ms: int | None = None, **given: Any
    ) -> None:
        """Commit one verdict for each partition named, with ids TOPIC-PARTITION-NUMBER."""
        async with self.producer.transaction():
            sent = []
            for partition in partitions:
                offsets = self.offsets.setdefault((topic, partition), [])
                number = len(offsets) + sum(p == partition for p, _ in sent)
                value = verdict(f"{topic}-{partition}-{number}", **given)
                future = await self.producer.send(
                    self.names[topic], value, partition=partition, timestamp_ms=at_ms
                )
                sent.append((partition, future))
        for partition, future in sent:
            self.offsets[topic, partition].append((await future).offset)

    async def abort(self, topic: int, partition: int) -> None:
        """Write a verdict that nobody may see."""
        with contextlib.suppress(_Aborted):
            async with self.producer.transaction():
                await self.producer.send_and_wait(
                    self.names[topic], verdict("aborted"), partition=partition
                )
                raise _Aborted


class _Aborted(Exception):  # noqa: N818 - it is no error
    pass


@contextlib.asynccontextmanager
async def writing(settings: KafkaSettings, transactional_id: str) -> AsyncIterator[Writer]:
    """Connect a writer."""
    producer = await kafka.start(
        lambda: kafka.producer(settings, transactional_id=transactional_id, retry_backoff_ms=5)
    )
    try:
        yield Writer(producer, {FRAUD: settings.fraud_topic, LEGIT: settings.legit_topic})
    finally:
        await kafka.close(producer)


async def add_partitions(settings: TopicSettings, topic: str, count: int) -> None:
    """Give a topic more partitions, so many in all, that take records from then on."""
    admin = await kafka.start(lambda: kafka.admin(settings))
    await admin.create_partitions({topic: NewPartitions(count)})
    await kafka.close(admin)
    await topics._led(settings, {topic: count})


class GatewayProcess:
    """A gateway in a process of its own; its address stays through restarts."""

    def __init__(self, settings: KafkaSettings, **environment: object) -> None:
        self._socket = listener.bind("127.0.0.1", 0)
        self._environment = {
            **os.environ,
            **{name.upper(): str(value) for name, value in settings.model_dump().items() if value},
            **{name.upper(): str(value) for name, value in environment.items()},
            "LOG_LEVEL": "warning",
        }
        self.process: forked.Forked | subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; connections wait until it is up."""
        fd = self._socket.fileno()
        self.process = forked.start("api", "--api-fd", str(fd), env=self._environment, fds=[fd])

    async def stop(self, signum: signal.Signals = signal.SIGTERM) -> float:
        """Signal it; give the seconds it took to end."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signum)
        await asyncio.to_thread(self.process.wait, DEADLINE_S)
        return time.monotonic() - began

    async def ready(self) -> None:
        """Wait until it follows its topics."""
        async with aiohttp.ClientSession(self.url) as session, asyncio.timeout(DEADLINE_S):
            while True:
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(0.05)

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._socket.close()


@contextlib.contextmanager
def gateways(
    settings: KafkaSettings, count: int = 1, **environment: object
) -> Iterator[list[GatewayProcess]]:
    """Run gateway processes."""
    processes = [GatewayProcess(settings, **environment) for _ in range(count)]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.close()


@dataclass(slots=True)
class Block:
    """One block of a stream, as it was sent."""

    fields: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        """Give a field's value."""
        return dict(self.fields).get(name)

    @property
    def position(self) -> Position | None:
        """The position in its id."""
        text = self.get("id")
        return None if text is None else decode(text)


class Reader:
    """A client that reads block by block, and remembers the last id."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id: str | None = None
        self._rest = b""
        self._blocks: list[bytes] = []

    async def block(self) -> Block:
        """Wait for the next block.

        Raises:
            EOFError: the stream ended.
        """
        async with asyncio.timeout(DEADLINE_S):
            while not self._blocks:
                data = await self.response.content.readany()
                if not data:
                    raise EOFError
                *self._blocks, self._rest = (self._rest + data).split(b"\n\n")
        lines = self._blocks.pop(0).decode().split("\n")
        block = Block([(n, v) for n, _, v in (line.partition(": ") for line in lines)])
        self.last_id = block.get("id") or self.last_id
        return block

    async def event(self) -> Block:
        """Wait for the next block that has data."""
        while True:
            block = await self.block()
            if block.get("data") is not None:
                return block

    async def ids(self, count: int) -> list[str]:
        """Give the transaction ids of the next verdicts."""
        return [await self.id() for _ in range(count)]

    async def id(self) -> str:
        """Give the transaction id of the next verdict."""
        block = await self.event()
        assert block.get("event") is None, block
        value = messages.decode_verdict((block.get("data") or "").encode())
        return value.transaction_id


@contextlib.asynccontextmanager
async def reading(
    url: object,
    path: str,
    last_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    **query: str,
) -> AsyncIterator[Reader]:
    """Open a stream."""
    headers = {"Accept": "text/event-stream", **(headers or {})}
    if last_id:
        headers["Last-Event-ID"] = last_id
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(str(url), timeout=timeout) as session,
        session.get(path, headers=headers, params=query) as response,
    ):
        assert response.status == 200, await response.text()
        yield Reader(response)
        response.close()


async def begun(reader: Reader) -> Reader:
    """Read up to the first id: from there on nothing may be missed."""
    while reader.last_id is None:
        await reader.block()
    return reader
