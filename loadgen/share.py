"""One process's share of a run: its target, its part of the schedule, its witness."""

from collections.abc import Iterator
from itertools import islice, takewhile
from time import monotonic as now
from typing import Final

from loadgen import schedule, trust
from loadgen.measure import Tally
from loadgen.payments import Shot
from loadgen.replay import Replay
from loadgen.run import Run, Start
from loadgen.settings import LoadgenSettings
from loadgen.target_http import HttpTarget
from loadgen.target_kafka import KafkaTarget
from loadgen.targets import Target
from loadgen.witness import Witness
from loadgen.world import World

WORLD_START: Final = 12 * 3600.0
"""The world's clock starts at noon whenever a run does: a seed always gives the same payments."""

AHEAD: Final = 32
"""Payments made at once, which takes less than a millisecond."""


class Share:
    """Every `count`-th shot of a run, beginning with the one at `index`."""

    def __init__(self, settings: LoadgenSettings, *, index: int = 0, count: int = 1) -> None:
        prefix = f"{settings.loadgen_run_id}-" + (f"{index}-" if count > 1 else "")
        self._settings = settings
        self._index, self._count = index, count
        self._tally = tally = Tally()
        self._target = _target(settings)
        # Every process reads the whole file; one counts what is wrong with it.
        self._source = _source(settings, tally if index == 0 else Tally())
        self._witness = Witness(settings, tally, prefix=prefix) if settings.loadgen_verify else None
        ledger = self._witness.ledger if self._witness else None
        self._run = Run(settings, self._target, tally, prefix=prefix, ledger=ledger)
        self._start = Start(now(), 0.0)
        self._dues = schedule.Dues(islice(_times(settings), index, None, count))

    @property
    def in_flight(self) -> int:
        """Transactions sent and not answered yet."""
        return self._run.in_flight

    async def prepare(self) -> None:
        """Wait for the target, and be subscribed to the verdicts before anything is sent."""
        await self._target.ready(self._settings.loadgen_wait)
        if self._witness:
            await self._witness.subscribe(on_end=self._run.stop)

    async def drive(self, start: Start) -> float:
        """Send this share, and wait for the verdicts that are still owed."""
        self._start = start
        ours = islice(self._shots(), self._index, None, self._count)
        shots = _ahead(ours, max(1, AHEAD // self._settings.loadgen_batch))
        seconds = await self._run.drive(shots, start)
        if self._witness:
            await self._witness.settle()
        return seconds

    def stop(self) -> None:
        """Send nothing more, and end when what is in flight is answered."""
        self._run.stop()

    def collect(self) -> Tally:
        """Give what was counted since the last call."""
        stretch = self._tally.taken()
        if self._settings.loadgen_replay:  # nobody knows how much the file still holds
            stretch.due = stretch.sent + stretch.dropped
        else:
            elapsed = min(now(), self._run.ended) - self._start.at
            stretch.due = self._dues.until(elapsed) * self._settings.loadgen_batch
        return stretch

    async def close(self) -> None:
        """Disconnect."""
        if self._witness:
            await self._witness.close()
        await self._target.close()

    def _shots(self) -> Iterator[Shot]:
        settings = self._settings
        batch = settings.loadgen_batch
        if isinstance(self._source, World):
            return self._source.shots(_times(settings), start=WORLD_START, batch=batch)
        if settings.loadgen_speed is None:
            return self._source.shots(_times(settings), batch=batch)
        shots = self._source.shots_at_own_pace(settings.loadgen_speed, batch=batch)
        return takewhile(lambda shot: shot.due < settings.seconds, shots)


def _ahead(shots: Iterator[Shot], count: int) -> Iterator[Shot]:
    """Make so many at once: a world that is left and entered with every send costs more CPU."""
    while some := list(islice(shots, count)):
        yield from some


def _target(settings: LoadgenSettings) -> Target:
    if settings.loadgen_target == "kafka":
        return KafkaTarget(settings, timeout=settings.loadgen_timeout)
    return HttpTarget(
        settings.loadgen_url,
        connections=settings.loadgen_connections,
        timeout=settings.loadgen_timeout,
        batched=settings.loadgen_batch > 1,
        trust=trust.context(settings),
        headers=settings.authorization,
    )


def _source(settings: LoadgenSettings, tally: Tally) -> World | Replay:
    if settings.loadgen_replay:
        return Replay(settings.loadgen_replay, settings.loadgen_replay_columns, tally)
    return World(settings.loadgen_seed, accounts=settings.loadgen_accounts)


def _times(settings: LoadgenSettings) -> Iterator[float]:
    """Give the times of all the run's shots."""
    arrivals = settings.loadgen_arrivals
    shape = schedule.shape(arrivals, settings.transactions_per_second, settings.seconds)
    shape = schedule.scaled(shape, 1 / settings.loadgen_batch)
    seed = settings.loadgen_seed if schedule.is_poisson(arrivals) else None
    return schedule.times(shape, seed=seed)
