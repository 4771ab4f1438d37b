"""The worker of one partition: reads, decides and writes it, for as long as it owns it.

The order of the start is what makes it exactly once: the writer first (the former owner is fenced
and its transaction settled), then the committed offset, then the state from the log, then the
first batch. After a roll-back the whole order is gone through again, so that a batch is always
read from the committed offset and judged by windows that hold just what lies before it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka import TopicPartition

from detector.batch import Outcome, judge, replay
from detector.engine import Engine
from detector.errors import AbortedError, StuckError
from detector.metrics import Metrics
from detector.reader import Reader, Records
from detector.rulesfile import RulesSource
from detector.settings import DetectorSettings
from detector.windows import WindowLimits
from detector.writer import Writer
from wire.messages import instant

log = structlog.get_logger(__name__)
PROGRESS_EVERY_S: Final = 2.0
END_TO_END_SAMPLES: Final = 64
"""Most times taken of one batch for the end-to-end histogram."""

Committed = Callable[[TopicPartition], Awaitable[int | None]]


@dataclass(slots=True)
class State:
    """The windows of a partition, and the offset that they go up to."""

    engine: Engine
    offset: int


class Worker:
    """Decides on the records of one partition."""

    def __init__(
        self,
        settings: DetectorSettings,
        partition: TopicPartition,
        *,
        rules: RulesSource,
        committed: Committed,
        metrics: Metrics,
        state: State | None = None,
    ) -> None:
        """Make a worker.

        Args:
            settings: its bounds and deadlines.
            partition: what it owns.
            rules: where the rules in force are found.
            committed: asks the group for its committed offset.
            metrics: where it counts.
            state: windows kept from an earlier ownership; used only if nothing came between.
        """
        self.partition = partition
        self.state = state
        self._settings = settings
        self._rules = rules
        self._committed = committed
        self._metrics = metrics
        self._stopping = False
        self._log = log.bind(topic=partition.topic, partition=partition.partition)

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping = True

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            FencedError: another worker has taken over.
            StuckError: Kafka does not answer, or rolls back again and again.
        """
        aborts = 0
        while not self._stopping:
            done = self._metrics.batches
            try:
                await self._own()
            except AbortedError as error:
                self.state = None  # the windows have moved on over records that are read again
                self._metrics.aborts += 1
                aborts = 1 if self._metrics.batches > done else aborts + 1
                if aborts > self._settings.detector_aborts:
                    raise StuckError(f"{aborts} roll-backs in a row: {error}") from error
                self._log.warning("transaction rolled back", error=str(error), in_a_row=aborts)
                await asyncio.sleep(min(0.1 * 2 ** (aborts - 1), 2.0))

    async def _own(self) -> None:
        writer = Writer(self._settings, self.partition)
        reader = Reader(self._settings, self.partition)
        try:
            await writer.start()
            await reader.start()
            state = await self._restore(reader)
            while state and not self._stopping:
                records = await reader.read(self._settings.detector_batch_records)
                if records and (state := await self._with_rules(state, reader)):
                    await self._settle(records, state, reader, writer)
        finally:
            await asyncio.gather(writer.stop(), reader.stop())

    async def _with_rules(self, state: State, reader: Reader) -> State | None:
        """Put new rules in force, between two batches; from the log where they look back further.

        The reader ends up where it was. None if stopped on the way.
        """
        rules = self._rules.rules
        if rules is state.engine.rules:
            return state
        if state.engine.fits(rules):
            state.engine.rules = rules
            return state
        resume = await reader.position()
        replayed = await self._replayed(reader, state.offset)
        reader.seek(resume)
        return replayed

    async def _settle(self, records: Records, state: State, reader: Reader, writer: Writer) -> None:
        """Decide on the records and write what comes of it, in one transaction."""
        began = time.monotonic()
        now_ms = time.time_ns() // 1_000_000
        outcome = judge(
            state.engine, records, instant(now_ms), self._settings.detector_dead_letter_bytes
        )
        next_offset = records[-1].offset + 1
        self.state = None  # in doubt until the transaction is settled
        await writer.write(outcome, next_offset, now_ms)
        state.offset = next_offset
        self.state = state
        spent = time.monotonic() - began
        self._count(outcome, records, spent)
        lag = self._metrics.lag[self.partition.partition] = reader.lag(next_offset)
        if lag == 0 and not self._stopping:
            await asyncio.sleep(self._rest(spent))

    def _rest(self, spent: float) -> float:
        """Give how long to gather after a transaction that took so long, in seconds.

        A transaction costs the same for one record as for many. The longer it takes, the busier
        the machines are, and the more a rest relieves them: all transactions get shorter by it.
        """
        settings = self._settings
        rest = max(settings.detector_pace_ms / 1000 - spent, spent * settings.detector_rest_share)
        return min(rest, settings.detector_rest_ms / 1000)

    def _count(self, outcome: Outcome, records: Records, seconds: float) -> None:
        metrics, state, partition = self._metrics, self.state, self.partition.partition
        metrics.records += len(records)
        metrics.legit += len(outcome.legit)
        metrics.fraud += len(outcome.fraud)
        metrics.duplicates += outcome.duplicates
        metrics.dead_letters += len(outcome.dead)
        metrics.batches += 1
        metrics.hit(outcome.rules)
        metrics.batch_records.observe(len(records))
        metrics.transaction.observe(seconds)
        # In a large batch, one record stands for its neighbours.
        now, step = time.time(), 1 + len(records) // END_TO_END_SAMPLES
        for first in range(0, len(records), step):
            waited = now - records[first].timestamp / 1000
            metrics.end_to_end.observe(waited, min(step, len(records) - first))
        if state is not None:
            metrics.entries[partition] = state.engine.entries
            metrics.evicted[partition] = state.engine.evicted

    async def _restore(self, reader: Reader) -> State | None:
        """Give the windows as they are at the committed offset, and have the reader go on there.

        None if stopped on the way.
        """
        offset = await reader.resume_at(await self._committed(self.partition))
        state, self.state = self.state, None
        if state is None or state.offset != offset:
            state = await self._replayed(reader, offset)
        reader.seek(offset)
        if state:
            self._log.info("working", offset=offset, entries=state.engine.entries)
        self.state = state
        return state

    async def _replayed(self, reader: Reader, offset: int) -> State | None:
        """Build the windows at an offset from the log before it; None if stopped on the way."""
        began = said = time.monotonic()
        limits = WindowLimits(self._settings.detector_window_entries)
        engine = Engine(self._rules.rules, limits)
        first = await reader.replay_from(offset, engine.rules.horizon_ms)
        reader.seek(first)
        count = 0
        while await reader.position() < offset:
            if self._stopping:
                return None
            records = await reader.read(self._settings.detector_batch_records)
            if records and records[-1].offset >= offset:
                records = [record for record in records if record.offset < offset]
            replay(engine, records)
            count += len(records)
            now = time.monotonic()
            if now - said > PROGRESS_EVERY_S:
                said = now
                self._log.info("rebuilding", records=count, of=offset - first)
        spent = time.monotonic() - began
        self._metrics.rebuilds += 1
        self._metrics.rebuilt_records += count
        self._metrics.rebuild_seconds += spent
        self._log.info("rebuilt", records=count, seconds=round(spent, 3))
        return State(engine, offset)
