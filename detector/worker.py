"""The worker: reads, decides and writes the partitions of one assignment, for as long as it lasts.

The order of the start is what makes it exactly once: the writer first (former owners are fenced and
their transactions settled), then the committed offsets, then the state from the log, then the first
batch. After a roll-back the whole order is gone through again, so that a batch is always read from
the committed offset and judged by windows that hold just what lies before it.

All partitions share one loop: what has come of each is decided on and written in one transaction,
which costs the same for one partition as for many. A partition whose state is being rebuilt is read
in the same loop, and joins the transactions when it is done.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import TopicPartition

from detector.batch import Outcome, judge
from detector.errors import AbortedError
from detector.history import History
from detector.metrics import Metrics
from detector.requests import Membership
from detector.rulesfile import RulesSource
from detector.settings import DetectorSettings
from detector.states import MOVING, State, States
from detector.windows import WindowLimits
from detector.writer import Writer
from wire import access, kafka, topics
from wire.errors import StuckError
from wire.messages import instant
from wire.source import Chunk, Limits, Source

if TYPE_CHECKING:
    from detector.tracing import BatchTrace, DetectorTracing

log = structlog.get_logger(__name__)
RECORDS_IN_ONE_GO: Final = 500
"""Most records decided on before the event loop gets its turn: some milliseconds' work."""
SILENT_DEADLINES: Final = 3
"""When no broker has let us in, or answered a fetch, for so many deadlines, the worker gives up."""


@dataclass(slots=True)
class Batch:
    """What was decided on in one go, and where the partitions go on after it."""

    began: float
    decided_ms: int
    chunks: list[Chunk] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    trace: "BatchTrace | None" = None


class Worker:
    """Decides on the records of some partitions."""

    def __init__(
        self,
        settings: DetectorSettings,
        places: Sequence[TopicPartition],
        *,
        membership: Membership,
        rules: RulesSource,
        metrics: Metrics,
        states: Mapping[TopicPartition, State] | None = None,
        tracing: "DetectorTracing | None" = None,
    ) -> None:
        """Make a worker.

        Args:
            settings: its bounds and deadlines.
            places: the partitions that it owns, of one topic.
            membership: as whom it owns them.
            rules: where the rules in force are found.
            metrics: where it counts.
            states: windows kept from an earlier ownership; used only if nothing came between.
            tracing: follows the traces that records carry; None: nothing is traced.
        """
        self.places = tuple(places)
        limits = WindowLimits(settings.detector_window_entries)
        self.states = States(limits, rules, metrics, states or {})
        self._settings = settings
        self._silence_s = SILENT_DEADLINES * settings.detector_deadline_seconds
        self._membership = membership
        self._metrics = metrics
        self._tracing = tracing
        self._writing: asyncio.Task[None] | None = None
        self._stopping = False

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping = True

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            FencedError: another worker has taken over.
            StuckError: Kafka does not answer, or rolls back again and again.
            BrokerUnreachableError: no broker lets it in, though one keeps it in the group.
        """
        aborts = 0
        while not self._stopping:
            done = self._metrics.batches
            try:
                await self._own()
            except AbortedError as error:
                self._metrics.aborts += 1
                if access.refused(error, self._settings) is not None:
                    raise StuckError(str(error)) from error  # the same again would not help
                aborts = 1 if self._metrics.batches > done else aborts + 1
                if aborts > self._settings.detector_aborts:
                    raise StuckError(f"{aborts} roll-backs in a row: {error}") from error
                log.warning("transaction rolled back", error=str(error), in_a_row=aborts)
                await asyncio.sleep(min(0.1 * 2 ** (aborts - 1), 2.0))

    async def _own(self) -> None:
        async with AsyncExitStack() as stack:
            writing, reading = await asyncio.gather(*(self._connected(stack) for _ in range(2)))
            numbers = [place.partition for place in self.places]
            writer = Writer(self._settings, writing, numbers, self._membership)
            committed = await writer.take_over()
            source = Source(reading, self._limits())
            stack.push_async_callback(source.stop)
            history = History(self._settings, reading, source)
            offsets = await history.resume_at(
                {place: committed[place.partition] for place in self.places}
            )
            await self.states.restore(offsets, source, history)
            stack.push_async_callback(self._cancel_write)
            self._metrics.answered_at |= dict.fromkeys(numbers, time.monotonic())
            while not self._stopping:
                chunks = await source.read()
                self._watch(source)
                sent_back = await self.states.follow_rules(source, history)
                ready = [
                    ready
                    for chunk in chunks
                    if chunk.place not in sent_back and (ready := self.states.take(chunk))
                ]
                if ready:
                    await self._settle(ready, writer)
            await self._written()

    def _watch(self, source: Source) -> None:
        """Note how the partitions stand.

        Raises:
            StuckError: no broker answers. Here it would be tried for ever, with what was known of
                the brokers at the start; a new process looks anew, and is told if it may not in.
        """
        for place in self.places:
            if (standing := source.standings.get(place)) is not None:
                self._metrics.lag[place.partition] = standing.lag
                self._metrics.answered_at[place.partition] = standing.at
        if source.silence > self._silence_s:
            raise StuckError(f"no broker has answered a fetch within {self._silence_s:g} s")

    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(
            wait_ms=settings.detector_poll_ms,
            partition_bytes=settings.detector_fetch_bytes,
            total_bytes=settings.detector_fetch_total_bytes,
            deadline_s=settings.detector_deadline_seconds,
        )

    async def _connected(self, stack: AsyncExitStack) -> kafka.RawClient:
        settings = self._settings
        names = topics.names(settings)
        client = await kafka.start(lambda: kafka.client(settings, names), patience=self._silence_s)
        stack.push_async_callback(kafka.close, client)
        return client

    async def _settle(self, chunks: Sequence[Chunk], writer: Writer) -> None:
        """Decide on the records and write what comes of them, in one transaction.

        With a back-log, the next ones are decided on while these are being written. Should the
        transaction be rolled back, so is all that was decided since: no state is ahead of the
        committed offset that the next start finds, without being rebuilt.
        """
        batch = await self._decide(chunks)
        await self._written()
        if batch.offsets:
            self._writing = asyncio.create_task(self._write(batch, writer), name="write")
        if not any(chunk.lag for chunk in chunks):
            await self._written()
            if not self._stopping:
                await asyncio.sleep(self._rest(time.monotonic() - batch.began))

    async def _decide(self, chunks: Sequence[Chunk]) -> Batch:
        batch = Batch(time.monotonic(), time.time_ns() // 1_000_000)
        decided_at = instant(batch.decided_ms)
        cut = self._settings.detector_dead_letter_bytes
        trace = batch.trace = self._tracing.batch() if self._tracing else None
        carry = trace.headers if trace else None
        for chunk in chunks:
            if chunk.records:
                place, state = chunk.place, self.states[chunk.place]
                state.offset = MOVING
                outcome = batch.outcomes[place.partition] = Outcome()
                for first in range(0, len(chunk.records), RECORDS_IN_ONE_GO):
                    records = chunk.records[first : first + RECORDS_IN_ONE_GO]
                    judge(
                        state.engine,
                        records,
                        decided_at,
                        place,
                        cut=cut,
                        carry=carry,
                        outcome=outcome,
                    )
                    # The last transaction takes its next step, and the group hears from us.
                    await asyncio.sleep(0)
                batch.offsets[place.partition] = state.offset = chunk.next_offset
                batch.chunks.append(chunk)
        if trace:
            trace.decided()
        return batch

    async def _write(self, batch: Batch, writer: Writer) -> None:
        with batch.trace or nullcontext():
            await writer.write(batch.outcomes, batch.offsets, batch.decided_ms)
        spent = time.monotonic() - batch.began
        self._count(batch, spent)
        if batch.trace:
            batch.trace.exemplify(self._metrics.transaction, spent)

    async def _written(self) -> None:
        """Wait until nothing is being written; raises what the writer does."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            try:
                await writing
            except asyncio.CancelledError:
                writing.cancel()
                raise

    async def _cancel_write(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait((self._writing,))
            self._writing = None

    def _rest(self, spent: float) -> float:
        """Give how long to gather after a transaction that took so long, in seconds.

        A transaction costs the same for one record as for many. The longer it takes, the busier
        the machines are, and the more a rest relieves them: all transactions get shorter by it.
        """
        settings = self._settings
        rest = max(settings.detector_pace_ms / 1000 - spent, spent * settings.detector_rest_share)
        return min(rest, settings.detector_rest_ms / 1000)

    def _count(self, batch: Batch, seconds: float) -> None:
        metrics, total = self._metrics, 0
        for chunk in batch.chunks:
            number, engine = chunk.place.partition, self.states[chunk.place].engine
            metrics.settled(number, chunk.records, batch.outcomes[number], engine)
            total += len(chunk.records)
        metrics.batches += 1
        metrics.batch_records.observe(total)
        metrics.transaction.observe(seconds)
