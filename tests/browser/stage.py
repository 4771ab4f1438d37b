"""What the browser tests play with: services as processes, verdicts, and a page that is watched."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.async_api import ConsoleMessage, Page

from tests import forked
from tests.trust import TRUST
from wire import kafka
from wire.messages import Reason, Verdict, encode
from wire.settings import TopicSettings

START_S: Final = 30
STOP_S: Final = 10


class Part:
    """One of the project's services, run as users run it."""

    def __init__(self, name: str, settings: TopicSettings, log: Path, **environment: str) -> None:
        self.name = name
        self.log = log
        self.environment = {
            "KAFKA_BROKER_URL": settings.kafka_broker_url,
            "TRANSACTIONS_TOPIC": settings.transactions_topic,
            "LEGIT_TOPIC": settings.legit_topic,
            "FRAUD_TOPIC": settings.fraud_topic,
            "DEAD_LETTER_TOPIC": settings.dead_letter_topic,
            **environment,
        }
        self.process: forked.Forked | subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it without waiting for it."""
        with self.log.open("ab") as log:
            env = os.environ | self.environment
            self.process = forked.start(self.name, env=env, output=log.fileno())

    def end(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """End it with a signal, and wait for that."""
        if self.process is not None:
            self.process.send_signal(signum)
            self.process.wait(STOP_S)
            self.process = None


class Gateway(Part):
    """A gateway process that keeps its address when it is started again."""

    def __init__(self, settings: TopicSettings, log: Path, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # Short waits, so that outages are short too.
        super().__init__(
            "api",
            settings,
            log,
            API_PORT=str(port),
            STREAM_RETRY_MS="300",
            DELIVERY_TIMEOUT="2",
            **environment,
        )
        self.settings = settings
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        """Start it and wait until it is ready."""
        super().start()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                if (
                    httpx.get(f"{self.url}/readyz", trust_env=False, verify=TRUST).status_code
                    == 200
                ):
                    return
            except httpx.TransportError:
                pass  # not listening yet
            time.sleep(0.05)
        pytest.fail(f"the gateway is not ready:\n{self.log.read_text()}")


class Line:
    """A line to a gateway, of which what is connected can go dead: open, and nothing comes."""

    def __init__(self, url: str, port: int) -> None:
        self.url = url
        self._port = port
        self._dead: set[asyncio.Task[None]] = set()
        self._alive: set[asyncio.Task[None]] = set()

    def die(self) -> None:
        """Carry nothing more on the connections there are; new ones are as good as ever."""
        self._dead |= self._alive

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        ways = {
            asyncio.create_task(self._pass_on(*way)) for way in ((reader, back), (there, writer))
        }
        self._alive |= ways
        try:
            await asyncio.wait(ways)
        finally:
            for way in ways:
                way.cancel()
            self._alive -= ways
            back.close()
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if asyncio.current_task() not in self._dead:
                    writer.write(data)
                    await writer.drain()
        if asyncio.current_task() not in self._dead:
            writer.close()


@contextlib.asynccontextmanager
async def line(gateway: Gateway) -> AsyncIterator[Line]:
    """Lay a line to a gateway."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = int(gateway.url.rpartition(":")[2])
        made = Line(f"http://127.0.0.1:{listening.getsockname()[1]}", port)
        carrying: set[asyncio.Task[None]] = set()

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            carrying.add(task)
            await made.carry(reader, writer)
            carrying.discard(task)

        server = await asyncio.start_server(carry, sock=listening)
        try:
            yield made
        finally:
            server.close()
            for task in carrying:
                task.cancel()
            await asyncio.gather(*carrying, return_exceptions=True)


class Verdicts:
    """Verdicts put into the topics, as the detector would."""

    def __init__(self, settings: TopicSettings) -> None:
        self.settings = settings

    async def publish(self, verdicts: Sequence[Verdict]) -> None:
        """Produce them, in order, and wait until Kafka has them all."""
        await self._put([(each.decision, encode(each), each.source.encode()) for each in verdicts])

    async def put(self, decision: str, value: bytes) -> None:
        """Produce what need not be a verdict."""
        await self._put([(decision, value, None)])

    async def _put(self, records: Sequence[tuple[str, bytes, bytes | None]]) -> None:
        topic = {"fraud": self.settings.fraud_topic, "legit": self.settings.legit_topic}
        producer = await kafka.start(lambda: kafka.producer(self.settings), patience=START_S)
        try:
            sent = [
                await producer.send(topic[decision], value, key=key)
                for decision, value, key in records
            ]
            await asyncio.gather(*sent)
        finally:
            await kafka.close(producer)


def verdict(amount: str = "900.01", *, decision: str | None = None, **given: Any) -> Verdict:
    """Make a verdict: fraud above 900, as the shipped rule says."""
    fraud = decision == "fraud" or (decision is None and Decimal(amount) > 900)
    now = datetime.now(UTC)
    defaults: dict[str, Any] = {
        "transaction_id": str(uuid.uuid4()),
        "source": "acct-alice",
        "target": "acct-bob",
        "amount": Decimal(amount),
        "currency": "EUR",
        "decision": "fraud" if fraud else "legit",
        "score": 100 if fraud else 0,
        "reasons": (Reason("amount-limit", "1", f"amount {amount} > 900"),) if fraud else (),
        "rules_version": "test",
        "received_at": now,
        "decided_at": now,
    }
    return Verdict(**(defaults | given))


class Watched:
    """A page whose console, errors and policy violations are kept."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.failed_loads: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))

    async def open(self, path: str) -> Page:
        """Go there and wait until the stream is open."""
        await self.page.goto(self.url + path)
        await self.page.wait_for_selector("#connection[data-state=live]")
        return self.page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        # What the network or the gateway refused is the test's business.
        refused = message.text.startswith("Failed to load resource")
        (self.failed_loads if refused else self.complaints).append(message.text)
