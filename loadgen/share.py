"""One process's share of a run: its target, its part of the schedule, its matching of verdicts."""

import asyncio
from collections.abc import Iterator
from itertools import islice, takewhile
from time import monotonic as now
from typing import Never

import msgspec

from loadgen import schedule
from loadgen.errors import StreamError
from loadgen.ledger import Ledger
from loadgen.measure import Tally
from loadgen.payments import Shot
from loadgen.replay import Replay
from loadgen.run import Run, Start, until
from loadgen.settings import LoadgenSettings
from loadgen.streams import EventStream, Follower, VerdictTopics
from loadgen.target_http import HttpTarget
from loadgen.target_kafka import KafkaTarget
from loadgen.targets import Target
from loadgen.world import World


class _Seen(msgspec.Struct):
    """What matching needs of a verdict."""

    transaction_id: str
    decision: str


class Share:
    """Every `count`-th shot of a run, beginning with the one at `index`."""

    def __init__(self, settings: LoadgenSettings, *, index: int = 0, count: int = 1) -> None:
        self._tally = Tally()
        self._settings = settings
        self._index, self._count = index, count
        self._prefix = f"{settings.loadgen_run_id}-" + (f"{index}-" if count > 1 else "")
        self._seen = msgspec.json.Decoder(_Seen)
        self._target = _target(settings)
        # Every process reads the whole file; one counts what is wrong with it.
        self._source = _source(settings, self._tally if index == 0 else Tally())
        self._ledger = _ledger(settings, self._tally)
        self._following: asyncio.Task[Never] | None = None
        self._run = Run(
            settings, self._target, self._tally, prefix=self._prefix, ledger=self._ledger
        )

    @property
    def in_flight(self) -> int:
        """Transactions sent and not answered yet."""
        return self._run.in_flight

    async def prepare(self) -> None:
        """Wait for the target, and be subscribed to the verdicts before anything is sent."""
        await self._target.ready(self._settings.loadgen_wait)
        if self._ledger:
            await self._subscribe(self._follower())

    async def drive(self, start: Start) -> float:
        """Send this share, and wait for the verdicts that are still owed."""
        shots = islice(self._shots(start), self._index, None, self._count)
        seconds = await self._run.drive(shots, start)
        if ledger := self._ledger:
            await until(lambda: not ledger.pending, self._settings.loadgen_settle)
            ledger.close()
        if self._following and self._following.done():
            self._following.result()
        return seconds

    def stop(self) -> None:
        """Send nothing more, and end when what is in flight is answered."""
        self._run.stop()

    def collect(self) -> Tally:
        """Give what was counted since the last call."""
        return self._tally.taken()

    async def close(self) -> None:
        """Disconnect."""
        if self._following:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._target.close()

    def _shots(self, start: Start) -> Iterator[Shot]:
        settings = self._settings
        batch = settings.loadgen_batch
        if isinstance(self._source, World):
            return self._source.shots(_times(settings), start=start.epoch, batch=batch)
        if settings.loadgen_speed is None:
            return self._source.shots(_times(settings), batch=batch)
        shots = self._source.shots_at_own_pace(settings.loadgen_speed, batch=batch)
        return takewhile(lambda shot: shot.due < settings.seconds, shots)

    def _follower(self) -> Follower:
        if self._settings.loadgen_target == "kafka":
            return VerdictTopics(self._settings, self._verdict)
        return EventStream(f"{self._settings.loadgen_url}/stream/all", self._verdict, self._tally)

    async def _subscribe(self, follower: Follower) -> None:
        self._following = asyncio.create_task(follower.follow())
        self._following.add_done_callback(lambda _: self._run.stop())
        subscribed = asyncio.create_task(follower.subscribed.wait())
        await asyncio.wait(
            {subscribed, self._following},
            timeout=self._settings.loadgen_wait,
            return_when=asyncio.FIRST_COMPLETED,
        )
        subscribed.cancel()
        if self._following.done():
            self._following.result()
        if not follower.subscribed.is_set():
            raise StreamError("the verdicts can't be subscribed to")

    def _verdict(self, data: bytes) -> None:
        """Match a verdict if it is on one of ours; others may send as well."""
        seen = self._seen.decode(data)
        if self._ledger and seen.transaction_id.startswith(self._prefix):
            number = seen.transaction_id[len(self._prefix) :]
            if number.isdecimal():
                self._ledger.decided(int(number), fraud=seen.decision == "fraud", at=now())


def _target(settings: LoadgenSettings) -> Target:
    if settings.loadgen_target == "kafka":
        return KafkaTarget(settings, timeout=settings.loadgen_timeout)
    return HttpTarget(
        settings.loadgen_url,
        connections=settings.loadgen_connections,
        timeout=settings.loadgen_timeout,
        batched=settings.loadgen_batch > 1,
    )


def _source(settings: LoadgenSettings, tally: Tally) -> World | Replay:
    if settings.loadgen_replay:
        return Replay(settings.loadgen_replay, settings.loadgen_replay_columns, tally)
    return World(settings.loadgen_seed, accounts=settings.loadgen_accounts)


def _ledger(settings: LoadgenSettings, tally: Tally) -> Ledger | None:
    if not settings.loadgen_verify:
        return None
    return Ledger(tally, window=settings.loadgen_verify_window, expect=settings.loadgen_expect)


def _times(settings: LoadgenSettings) -> Iterator[float]:
    """Give the times of all the run's shots."""
    arrivals = settings.loadgen_arrivals
    rate = settings.transactions_per_second
    shape = schedule.shape(arrivals, rate, settings.seconds)
    shape = schedule.scaled(shape, 1 / settings.loadgen_batch)
    seed = settings.loadgen_seed if schedule.is_poisson(arrivals) else None
    return schedule.times(shape, seed=seed)
