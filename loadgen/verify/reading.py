"""Reading the log for an audit.

That is the transactions topic over a span of time beside the verdict topics and the dead letters,
as committed, from Kafka alone: it holds for traffic from anywhere.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic as now
from typing import Final

import structlog
from aiokafka import TopicPartition

from loadgen.verify.audit import Audit, Findings
from loadgen.verify.settings import VerifySettings
from wire import offsets
from wire.deadline import deadline
from wire.errors import MessageError
from wire.kafka import RawClient
from wire.messages import decode_transaction, decode_verdict, instant
from wire.records import Record
from wire.source import Chunk, Limits, Source

log = structlog.get_logger(__name__)
POLL_MS: Final = 200
LIMITS: Final = Limits(POLL_MS, partition_bytes=1 << 18, total_bytes=1 << 19, deadline_s=60.0)
"""Of one fetch, some thousand records: what one step of the audit works on."""
IDLE_POLLS: Final = 10
"""So many polls without an outcome mean that there is none at the moment."""
CLOCKS_APART: Final = timedelta(minutes=1)
"""Those that stamp transactions and those that stamp verdicts, at most."""
_PLACE: Final = ("topic", "partition", "offset")
"""Headers of a dead letter: where the record lay."""
_EVER: Final = datetime.min.replace(tzinfo=UTC)


class Reading:
    """Reads the topics side by side and hands what they hold to an audit."""

    def __init__(
        self,
        settings: VerifySettings,
        client: RawClient,
        source: Source,
        counts: Mapping[str, int],
    ) -> None:
        self._settings = settings
        self._client = client
        self._source = source
        self._next: dict[TopicPartition, int] = {}
        """Where each partition is read next."""
        self._log = _partitions(counts, settings.transactions_topic)
        self._outcomes = _partitions(
            counts, settings.legit_topic, settings.fraud_topic, settings.dead_letter_topic
        )
        self._duplicates = timedelta(seconds=settings.verify_duplicates)
        self._audit = Audit(
            window=settings.verify_window,
            duplicates_ms=self._duplicates // timedelta(milliseconds=1),
            expect=settings.verify_expect,
        )
        since_ms = settings.verify_since
        self._since = _EVER if since_ms is None else instant(since_ms)
        self._latest = _EVER
        self._idle = 0
        self._is_at_end = False
        """Whether the log was read to its end: nothing is to be waited for then."""
        self._stopped = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether it was told so."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Watch no longer; what was read is still judged."""
        self._stopped.set()

    async def audit(self) -> Findings:
        """Read to the end of the span and judge."""
        await self._seek()
        deadline = now() + self._settings.verify_duration
        while now() < deadline and not self._stopped.is_set():
            await self._step()
        ends = await self._offsets(self._log, offsets.END)
        there = await self._offsets(self._outcomes, offsets.END)
        while not self._read_to(ends):
            await self._step(ends)
        self._is_at_end = True
        # What lies there may take longer to read than what is still to come is given.
        while not self._read_to(there):
            await self._step(ends)
        deadline = now() + self._settings.verify_settle
        while self._audit.pending and now() < deadline:
            await self._step(ends)
        if owed := self._audit.pending:
            seconds = self._settings.verify_settle
            log.warning("no outcome within --settle: lost", records=owed, seconds=seconds)
        # Once more to the end of the outcomes: a duplicate comes after what it doubles.
        while self._idle < IDLE_POLLS and now() < deadline:
            await self._step(ends)
        # What was on its way to other partitions when the ends were taken may be a little older.
        self._audit.close(until=max(self._latest, _EVER + CLOCKS_APART) - CLOCKS_APART)
        findings = self._audit.findings
        if findings.forgotten:
            log.warning(
                "more transactions than --window within the duplicates' window: repeats of "
                "those that were forgotten count as lost",
                forgotten=findings.forgotten,
            )
        return findings

    async def _seek(self) -> None:
        partitions = [*self._log, *self._outcomes]
        whole = await self._whole_since()
        if whole > self._since:
            self._since = whole
            log.warning("retention took what came before: it is not judged", since=str(whole))
        if self._since == _EVER:
            self._next = await self._offsets(partitions, offsets.FIRST)
            return
        # What is repeated within the span may lie before it.
        found = await self._offsets(self._log, _ms(self._since, less=self._duplicates))
        found |= await self._offsets(self._outcomes, _ms(self._since, less=CLOCKS_APART))
        ends = await self._offsets(partitions, offsets.END)
        self._next = {
            place: ends[place] if at == offsets.NONE else at for place, at in found.items()
        }

    async def _offsets(self, places: Iterable[TopicPartition], at: int) -> offsets.Offsets:
        async with deadline(LIMITS.deadline_s, "where the topics begin and end"):
            return await offsets.since(self._client, places, at)

    async def _whole_since(self) -> datetime:
        """Give from when on every partition has all that the audit needs.

        Retention by size takes verdicts first, as they are larger than what they are about: those
        are not lost. And where the log is cut, a record may repeat one that is gone.
        """
        log_since = await self._begin(self._log)
        since = await self._begin(self._outcomes)
        if log_since != _EVER:
            since = max(since, log_since + self._duplicates)
        return since + CLOCKS_APART if since != _EVER else _EVER

    async def _begin(self, partitions: Collection[TopicPartition]) -> datetime:
        """Give from when on each partition has all that was written to it.

        One that has nothing left tells nothing, and is passed over.
        """
        firsts = await self._offsets(partitions, offsets.FIRST)
        cut = [partition for partition, first in firsts.items() if first]
        async with deadline(LIMITS.deadline_s, "when the topics begin"):
            stamps = await offsets.stamps(self._client, cut, 0)
        latest = _ms(datetime.now(UTC) + CLOCKS_APART)  # no record may shift it beyond all others
        found = [at for at in stamps.values() if offsets.NONE < at <= latest]
        return instant(max(found)) if found else _EVER

    async def _step(self, ends: Mapping[TopicPartition, int] | None = None) -> None:
        """Read a little of everything, keeping the two sides near each other."""
        self._keep_pace()
        outcomes = 0
        for chunk in await self._poll():
            place, records = chunk.place, chunk.records
            self._next[place] = chunk.next_offset
            if place in self._log:
                end = ends[place] if ends else None
                self._enter(place, [each for each in records if end is None or each.offset < end])
            else:
                outcomes += len(records)
                self._match(place.topic, records)
        self._idle = 0 if outcomes else self._idle + 1

    def _read_to(self, ends: offsets.Offsets) -> bool:
        return all(self._next[place] >= end for place, end in ends.items())

    def _keep_pace(self) -> None:
        half = self._settings.verify_window // 2
        behind = self._audit.pending > half and self._idle < IDLE_POLLS
        ahead = self._audit.early > half and not self._is_at_end
        for places, rests in ((self._log, behind and not ahead), (self._outcomes, ahead)):
            for place in places:
                if rests:
                    self._source.leave(place)
                else:
                    self._source.seek(place, self._next[place])

    async def _poll(self) -> list[Chunk]:
        """Give what comes within the poll's time."""
        until = now() + POLL_MS / 1000
        while not (chunks := await self._source.read()) and now() < until:
            pass
        return chunks

    def _enter(self, place: TopicPartition, records: list[Record]) -> None:
        for record in records:
            at_ms = record.timestamp
            try:
                at = instant(at_ms)
                transaction = decode_transaction(record.value or b"")
            except OverflowError:  # stamped beyond all calendars
                self._audit.poison(place.topic, place.partition, record.offset, at_ms)
            except MessageError:
                if at >= self._since:
                    self._latest = max(self._latest, at)
                    self._audit.poison(place.topic, place.partition, record.offset, at_ms)
            else:
                if at < self._since:  # or stamped before those that it stands behind
                    self._audit.before(transaction, place.partition, at_ms)
                    continue
                self._latest = max(self._latest, at)
                self._audit.transaction(transaction, place.partition, at_ms)

    def _match(self, topic: str, records: list[Record]) -> None:
        for record in records:
            if topic == self._settings.dead_letter_topic:
                self._match_dead_letter(record.headers)
                continue
            try:
                verdict = decode_verdict(record.value or b"")
            except MessageError:
                self._audit.foreign()
                continue
            if verdict.received_at >= self._since:
                self._audit.verdict(verdict)

    def _match_dead_letter(self, headers: Iterable[tuple[str, bytes | None]]) -> None:
        # The original's come first, and may be anything: of the same names, the last ones count.
        place = {
            name: (value or b"").decode(errors="replace")
            for name, value in headers
            if name in _PLACE
        }
        try:
            topic, partition, offset = (place[name] for name in _PLACE)
            self._audit.dead_letter(topic, int(partition), int(offset))
        except (KeyError, ValueError):
            self._audit.foreign()  # the detector's all say where their record lay


def _partitions(counts: Mapping[str, int], *names: str) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(name, at) for name in names for at in range(counts[name]))


def _ms(moment: datetime, *, less: timedelta = timedelta()) -> int:
    return max(0, int((moment.timestamp() - less.total_seconds()) * 1000))
