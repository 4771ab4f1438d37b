"""The states: the windows of a worker's partitions, brought up to date from the log if need be."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka import TopicPartition

from detector.batch import replay
from detector.engine import Engine
from detector.history import History
from detector.metrics import Metrics
from detector.rulesfile import RulesSource
from detector.windows import WindowLimits
from wire.source import Chunk, Source

log = structlog.get_logger(__name__)
PROGRESS_EVERY_S: Final = 2.0
MOVING: Final = -1
"""The offset of windows that are on their way to the next: no committed one is like it."""


@dataclass(slots=True)
class State:
    """The windows of a partition, and the offset that they go up to."""

    engine: Engine
    offset: int


@dataclass(slots=True)
class _Rebuild:
    """Windows on their way through the log, up to where they are wanted."""

    engine: Engine
    first: int
    until: int
    began: float
    said: float
    records: int = 0


class States:
    """The windows of some partitions; says where each has to be read from."""

    def __init__(
        self,
        limits: WindowLimits,
        rules: RulesSource,
        metrics: Metrics,
        kept: Mapping[TopicPartition, State],
    ) -> None:
        """Make them.

        Args:
            limits: how much a partition may remember.
            rules: where the rules in force are found.
            metrics: where rebuilding is counted.
            kept: windows from before; used only if nothing came between.
        """
        self._limits = limits
        self._rules = rules
        self._metrics = metrics
        self._ready = dict(kept)
        self._rebuilding: dict[TopicPartition, _Rebuild] = {}

    def __getitem__(self, place: TopicPartition) -> State:
        """Give the windows of a partition that `take` has given something of."""
        state: State = self._ready[place]
        return state

    def kept(self) -> dict[TopicPartition, State]:
        """Give what is not being rebuilt.

        Where the offset is not the committed one, the windows hold what was rolled back.
        """
        return dict(self._ready)

    async def restore(
        self, offsets: Mapping[TopicPartition, int], source: Source, history: History
    ) -> None:
        """See that the windows come to hold just what lies before these offsets."""
        for place, offset in offsets.items():
            self._rebuilding.pop(place, None)
            state = self._ready.pop(place, None)
            if state is not None and state.offset == offset:
                source.seek(place, offset)
                self._work_on(place, state)
            else:
                await self._rebuild(place, offset, source, history)

    async def follow_rules(self, source: Source, history: History) -> Iterable[TopicPartition]:
        """Put new rules in force, between two batches.

        Gives the partitions that are sent back in the log, since the rules look back further.
        """
        rules = self._rules.rules
        wanted = {place: (state.engine, state.offset) for place, state in self._ready.items()}
        for place, rebuild in self._rebuilding.items():
            wanted[place] = rebuild.engine, rebuild.until
        behind = []
        for place, (engine, offset) in wanted.items():
            if rules is engine.rules:
                continue
            if engine.fits(rules):
                engine.rules = rules
                continue
            self._ready.pop(place, None)
            await self._rebuild(place, offset, source, history)
            behind.append(place)
        return behind

    def take(self, chunk: Chunk) -> Chunk | None:
        """Give what of the chunk is to be decided on; what only builds up windows does so here."""
        rebuild = self._rebuilding.get(chunk.place)
        if rebuild is None:
            return chunk
        past = [record for record in chunk.records if record.offset < rebuild.until]
        replay(rebuild.engine, past)
        rebuild.records += len(past)
        if chunk.next_offset < rebuild.until:
            self._tell(chunk.place, rebuild)
            return None
        self._rebuilt(chunk.place)
        return chunk._replace(records=chunk.records[len(past) :])

    async def _rebuild(
        self, place: TopicPartition, offset: int, source: Source, history: History
    ) -> None:
        engine = Engine(self._rules.rules, self._limits)
        first = await history.replay_from(place, offset, engine.rules.horizon_ms)
        now = time.monotonic()
        self._rebuilding[place] = _Rebuild(engine, first, offset, now, now)
        source.seek(place, first)
        if first >= offset:
            self._rebuilt(place)

    def _tell(self, place: TopicPartition, rebuild: _Rebuild) -> None:
        now = time.monotonic()
        if now - rebuild.said > PROGRESS_EVERY_S:
            rebuild.said = now
            of = rebuild.until - rebuild.first
            log.info("rebuilding", partition=place.partition, records=rebuild.records, of=of)

    def _rebuilt(self, place: TopicPartition) -> None:
        rebuild = self._rebuilding.pop(place)
        spent = time.monotonic() - rebuild.began
        self._metrics.rebuilds += 1
        self._metrics.rebuilt_records += rebuild.records
        self._metrics.rebuild_seconds += spent
        log.info(
            "rebuilt", partition=place.partition, records=rebuild.records, seconds=round(spent, 3)
        )
        self._work_on(place, State(rebuild.engine, rebuild.until))

    def _work_on(self, place: TopicPartition, state: State) -> None:
        self._ready[place] = state
        entries = state.engine.entries
        log.info("working", partition=place.partition, offset=state.offset, entries=entries)
