"""Following verdicts as they come: over the gateway's event stream, or from Kafka.

A follower hands every verdict's JSON to a callback and goes on for ever; it is subscribed once
`subscribed` is set. The event stream is read as the HTML standard has it (9.2.6, Interpreting an
event stream), resuming with Last-Event-ID.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Never, Protocol

import aiohttp
import httpx
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from httpx_aiohttp import AiohttpTransport

from loadgen.errors import StreamError
from loadgen.measure import Tally
from wire import access, offsets, topics
from wire.deadline import deadline
from wire.settings import KafkaSettings
from wire.source import Limits, opened

log = structlog.get_logger(__name__)
PAUSE_S: Final = 0.25
"""Between a stream's end and the next attempt."""
SILENCE_S: Final = 40.0
"""The gateway sends a heartbeat every 15 s; one that is silent for so long is taken as gone."""
MAX_EVENT_BYTES: Final = 1_048_576
LIMITS: Final = Limits(wait_ms=500, partition_bytes=1 << 18, total_bytes=1 << 20, deadline_s=60.0)
"""Of a fetch of verdicts from Kafka."""
_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r")

Deliver = Callable[[bytes], None]


class Follower(Protocol):
    """Something that follows verdicts."""

    subscribed: asyncio.Event

    async def follow(self) -> Never:
        """Deliver verdicts until cancelled."""


class Event(NamedTuple):
    """One event of a stream."""

    kind: bytes
    """Empty for an unnamed event."""
    id: bytes | None
    data: bytes


class EventStream:
    """The verdicts of one gateway, by server-sent events."""

    def __init__(
        self,
        url: str,
        deliver: Deliver,
        tally: Tally,
        trust: ssl.SSLContext | bool = True,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.subscribed = asyncio.Event()
        self._url = url
        self._trust = trust
        self._headers = dict(headers)
        self._deliver = deliver
        self._tally = tally
        self._position = ""
        self._told = ""

    async def follow(self) -> Never:
        """Deliver verdicts, connecting again where the stream ends.

        Raises:
            StreamError: the server refuses the stream.
        """
        timeout = httpx.Timeout(SILENCE_S)
        transport = AiohttpTransport(verify=self._trust, trust_env=False)
        async with httpx.AsyncClient(
            transport=transport, timeout=timeout, trust_env=False
        ) as client:
            while True:
                try:
                    await self._connect(client)
                except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
                    self._tell("the event stream broke", cause=str(error) or repr(error))
                self._tally.reconnects += 1
                await asyncio.sleep(PAUSE_S)

    async def _connect(self, client: httpx.AsyncClient) -> None:
        headers = {"accept": "text/event-stream", "accept-encoding": "identity", **self._headers}
        if self._position:
            headers["last-event-id"] = self._position
        async with client.stream("GET", self._url, headers=headers) as response:
            if response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                self._tell("the event stream is not ready", status=response.status_code)
                return
            if response.status_code != httpx.codes.OK:
                raise StreamError(f"{self._url} answers {response.status_code}")
            self._told = ""
            async for event in events(response.aiter_raw()):
                if event.id is not None:
                    # The first thing that a gateway tells: from where on nothing can be missed.
                    self._position = event.id.decode()
                    self.subscribed.set()
                if event.kind == b"gap":
                    self._tally.gaps += 1
                    log.warning("the event stream has a gap", detail=event.data.decode())
                elif event.data and not event.kind:
                    self._deliver(event.data)

    def _tell(self, what: str, **how: object) -> None:
        """Log it, unless the last try ended alike."""
        if (told := f"{what} {how}") != self._told:
            self._told = told
            log.warning(what, **how)


class VerdictTopics:
    """The verdicts in Kafka, from the time of subscribing."""

    def __init__(self, settings: KafkaSettings, deliver: Deliver) -> None:
        self.subscribed = asyncio.Event()
        self._settings = settings
        self._deliver = deliver

    async def follow(self) -> Never:
        """Deliver verdicts, through what befalls the brokers.

        Raises:
            StreamError: Kafka refuses for good.
            StuckError: it does not answer, or what is to be read is not there any more.
        """
        try:
            await self._follow()
        except KafkaError as error:
            refusal = access.refused(error, self._settings)
            raise StreamError(str(refusal or error)) from error

    async def _follow(self) -> Never:
        names = (self._settings.legit_topic, self._settings.fraud_topic)
        counts = await topics.wait(self._settings, *names)
        partitions = [TopicPartition(name, at) for name in names for at in range(counts[name])]
        async with opened(self._settings, names, LIMITS) as (client, source):
            async with deadline(LIMITS.deadline_s, "where the topics end"):
                ends = await offsets.since(client, partitions, offsets.END)
            for place, end in ends.items():
                source.seek(place, end)
            self.subscribed.set()
            while True:
                for chunk in await source.read():
                    for record in chunk.records:
                        try:
                            self._deliver(record.value or b"")
                        except StreamError as error:  # someone else's: what is owed comes yet
                            log.warning("no verdict", topic=chunk.place.topic, cause=str(error))


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """Cut a stream's bytes into events, without those that are comments only.

    Raises:
        StreamError: an event is longer than any verdict could be.
    """
    rest = b""
    async for chunk in chunks:
        rest += chunk
        # Nearly all servers end lines with LF alone, and that is found ten times as fast.
        *whole, rest = _END_OF_EVENT.split(rest) if b"\r" in rest else rest.split(b"\n\n")
        if len(rest) > MAX_EVENT_BYTES:
            raise StreamError(f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes")
        for block in whole:
            for event in _event(block):
                yield event


def _event(block: bytes) -> Iterator[Event]:
    kind, position = b"", None
    data: list[bytes] = []
    for line in block.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id":
            position = value
        elif name == b"event":
            kind = value
    if data or position is not None:
        yield Event(kind, position, b"\n".join(data))
