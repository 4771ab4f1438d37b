"""The hub: what is read from Kafka once goes to every client of every stream.

Events come from two feeds, one for each verdict topic. They are gathered for a moment, then
sealed: put into the ring, encoded once for each stream, and handed to the clients as one chunk.
A client joins a stream between two seals, when it has passed everything in the ring; so nothing
falls between its history and what comes live.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from typing import Any, Final

import structlog

from api import transport
from api.access.principal import Principal
from api.settings import ApiSettings
from api.streams import sse
from api.streams.channel import Channel
from api.streams.event import Event
from api.streams.feed import Feed
from api.streams.filters import Filter
from api.streams.kept import keep
from api.streams.position import FRAUD, LEGIT, STREAMS, Cursor
from api.streams.replay import Replays
from api.streams.ring import Ring
from api.streams.subscription import Cause, Subscription
from wire.metrics import SECONDS, Histogram

log = structlog.get_logger(__name__)

SWEEP_EVERY_S: Final = 0.5
LONGEST_PAUSE_S: Final = 0.05
"""Longest gathering between two seals under load."""
PAGES_AT_A_TIME: Final = 4
"""Pages encoded for clients that catch up, in one turn of the event loop."""
PAUSE_SHARE: Final = 0.5
"""Gathering time as a share of the CPU time that handing out the last chunk took."""


class Hub:
    """One process's streams."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.ring = Ring(settings.stream_ring_events, settings.stream_ring_bytes)
        self.taps: list[Callable[[Sequence[Event]], None]] = []
        self.trace: Callable[[Sequence[Event], int], None] | None = None
        """Learns which events were handed out, and since when (ns since the Unix epoch)."""
        self.current: Callable[[Principal], Principal | None] = lambda principal: principal
        """Gives a principal with the rights it has by now; None if it counts no more."""
        self.channels = {name: Channel(topics) for name, topics in STREAMS.items()}
        self.feeds = {
            FRAUD: Feed(settings, FRAUD, settings.fraud_topic, self),
            LEGIT: Feed(settings, LEGIT, settings.legit_topic, self),
        }
        self.replays = Replays(settings)
        self.catching_up = asyncio.Semaphore(PAGES_AT_A_TIME)
        """Held while a page is encoded for one client: live clients must not wait for many such."""
        self.clients = Counter[str]()
        """Open streams, by stream."""
        self.ended = Counter[Cause]()
        """Streams that have ended, by cause."""
        self.delay = Histogram(SECONDS)
        """From a verdict's timestamp, which the detector sets, to its being read here."""
        self.draining = False
        self.failed = False
        """Whether a part has ended unasked: nothing is followed again in this process."""
        self.members: set[Subscription] = set()
        self._pending: list[Event] = []
        self._wake = asyncio.Event()
        self._sealed: asyncio.Future[None] | None = None
        self._ready = {topic: asyncio.Event() for topic in self.feeds}
        self._tasks: list[asyncio.Task[None]] = []
        self._drain_signal: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Start following, in the background; no broker need be up."""
        self._loop = asyncio.get_running_loop()
        feeds = [feed.run() for feed in self.feeds.values()]
        work = [
            *feeds,
            # Some clients have what others lack when one of these fails: they resume by their ids.
            *(
                keep(part, lambda: _cut(self.members, Cause.BROKEN))
                for part in (self._seal_as_it_comes, self._sweep)
            ),
        ]
        self._tasks = [asyncio.create_task(part) for part in work]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """End all streams and stop following."""
        self._drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drain(self) -> None:
        """End all streams within the drain time; may be called from a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drain)

    def drain_after(self, signal: Callable[[], Awaitable[None]]) -> None:
        """End all streams also when this wait ends; the first one given is the one that counts."""
        if self._drain_signal is None:

            async def wait() -> None:
                await signal()
                self._drain()

            # Not of the request that came first: what it logs is of the whole process.
            self._drain_signal = asyncio.get_running_loop().create_task(wait(), context=Context())
            self._tasks.append(self._drain_signal)

    @property
    def following(self) -> bool:
        """True while both topics are read and were answered for a moment ago."""
        return not self.draining and all(feed.following for feed in self.feeds.values())

    def lag(self) -> dict[str, int]:
        """Count the offsets not read yet, by topic name."""
        return {feed.name: feed.lag() for feed in self.feeds.values()}

    def status(self) -> dict[str, Any]:
        """Describe each stream for people: who listens, and how far behind Kafka it is."""
        return {
            name: {
                "following": all(self.feeds[topic].following for topic in topics),
                "clients": self.clients[name],
                "lag": sum(self.feeds[topic].lag() for topic in topics),
                "partitions": sum(len(self.feeds[topic].next) for topic in topics),
            }
            for name, topics in STREAMS.items()
        }

    # --- what subscribers need

    async def ready(self, topics: Sequence[int]) -> None:
        """Wait until it is known where the topics stand."""
        for topic in topics:
            await self._ready[topic].wait()

    async def sealed(self) -> None:
        """Wait until the next events are in the ring."""
        if self._sealed is None:
            self._sealed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._sealed)

    def enter(self, member: Subscription, stream: str) -> None:
        """Count a client in: from now on it gets heartbeats."""
        now = asyncio.get_running_loop().time()
        member.next_heartbeat = now + self.settings.stream_heartbeat_seconds
        if self.settings.stream_life_seconds:
            # Up to a fifth shorter, so that clients that came together don't go together.
            member.ends_at = now + self.settings.stream_life_seconds * random.uniform(0.8, 1)  # noqa: S311
        self.members.add(member)
        self.clients[stream] += 1
        self._check_credential(member)
        if self.draining:
            member.close(Cause.DRAIN)

    def check_credentials(self) -> None:
        """End the streams whose credentials allow something else by now, or nothing."""
        for member in list(self.members):
            self._check_credential(member)

    def _check_credential(self, member: Subscription) -> None:
        if member.principal is None:
            return
        found = self.current(member.principal)
        # With more rights, too: what a stream shows was settled when it was opened.
        if found is None or found.scopes != member.principal.scopes:
            member.close(Cause.CREDENTIAL)
        elif found.expires_at is not None:
            left = found.expires_at - time.time()
            member.expires_at = asyncio.get_running_loop().time() + left

    def leave(self, member: Subscription, stream: str, only: Filter | None) -> None:
        """Count a client out."""
        self.members.discard(member)
        self.clients[stream] -= 1
        self.channels[stream].leave(member, only)
        self.ended[member.cause or Cause.CLIENT] += 1

    def joins(self, stream: str, cursor: Cursor) -> bool:
        """Tell whether a client that has passed the whole ring stands where the stream stands."""
        live = self.channels[stream].cursor
        return all(
            cursor.next(topic, partition) <= offset
            for topic in live.topics
            for partition, offset in enumerate(live.vector(topic))
        )

    # --- what the feeds tell (api.streams.feed.Reader)

    def begin(self, topic: int, partition: int, offset: int) -> None:
        """Take note of a partition and the offset from which on it is read."""
        self.ring.begin(topic, partition, offset)
        for channel in self.channels.values():
            if topic in channel.cursor.topics:
                channel.cursor.move(topic, partition, offset)

    def read(self, topic: int, events: Sequence[Event]) -> None:
        """Take in what a feed has read."""
        if events:
            self.delay.observe(time.time() - events[0].timestamp_ms / 1000, len(events))
            for tap in self.taps:
                tap(events)
            self._pending.extend(events)
            self._wake.set()
        elif not self._ready[topic].is_set():
            self._wake.set()

    def lost(self, topic: int, partition: int, expected: int, offset: int) -> None:
        """Tell everyone that a partition's records are gone."""
        self._seal()
        self.ring.clear()
        self.begin(topic, partition, offset)
        missing = [sse.missing(self.feeds[topic].name, partition, expected, offset)]
        for channel in self.channels.values():
            if topic in channel.cursor.topics:
                channel.tell_gap(missing)

    # --- the clock

    async def _seal_as_it_comes(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = time.thread_time()
            self._seal()
            # The clients' tasks were woken: they run before the loop comes back here, so this
            # measures what the chunk cost. Under load some more is gathered for the next.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            took = time.thread_time() - began
            await asyncio.sleep(min(took * PAUSE_SHARE, LONGEST_PAUSE_S))

    def _seal(self) -> None:
        events, self._pending = self._pending, []
        self.ring.extend(events)
        began = time.time_ns()
        for channel in self.channels.values():
            channel.publish(events)
        for event in events:  # in the ring its bytes are what counts
            event.forget()
        if self.trace is not None:
            self.trace(events, began)
        self._pass_control_records()
        for topic, feed in self.feeds.items():
            if feed.caught_up:
                self._ready[topic].set()
        if self._sealed is not None:
            self._sealed.set_result(None)
            self._sealed = None

    def _pass_control_records(self) -> None:
        """Move past what was read and is no event: nothing is pending, so all of it was."""
        for channel in self.channels.values():
            for topic in channel.cursor.topics:
                for partition, offset in enumerate(self.feeds[topic].next):
                    if channel.cursor.next(topic, partition) != offset:
                        channel.cursor.move(topic, partition, offset)

    async def _sweep(self) -> None:
        """Send heartbeats, tell filtered clients of progress, end streams that are old enough."""
        loop = asyncio.get_running_loop()
        every = self.settings.stream_heartbeat_seconds
        heartbeat = transport.framed(sse.HEARTBEAT)
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = loop.time()
            for channel in self.channels.values():
                channel.tell_progress()
            for member in list(self.members):
                if now >= member.next_heartbeat:
                    member.next_heartbeat = now + every
                    member.write(sse.HEARTBEAT, heartbeat)
                if now >= member.expires_at:
                    member.close(Cause.CREDENTIAL)
                if now >= member.ends_at:
                    member.close(Cause.LIFE)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the streams if a part ended unasked: they must not look alive and be silent."""
        if not task.cancelling():
            error = None if task.cancelled() else task.exception()
            log.error("streams failed", exc_info=error)
            self.failed = True
            self._drain()

    def _drain(self) -> None:
        if self.draining:
            return
        self.draining = True
        members = list(self.members)
        log.info("streams end", clients=len(members))
        for member in members:
            member.close(Cause.DRAIN)
        assert self._loop is not None  # noqa: S101 - drained only after start
        self._loop.call_later(self.settings.stream_drain_seconds, _cut, members, Cause.DRAIN)


def _cut(members: Iterable[Subscription], cause: Cause) -> None:
    for member in list(members):
        member.cut(cause)
