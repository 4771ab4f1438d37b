"""The run itself: take what is due, send it, count what came of it. Open loop.

Each of the connections has a sender that takes the next shot from the common schedule, sleeps
until it is due and sends it. While all of them wait for answers, shots fall due unsent: they go
out late as soon as a sender is free, their latency still counted from the due time, and past a
bound they are dropped. So nothing queues up here, however long the server stalls.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

# Not the event loop's clock: uvloop's counts whole milliseconds.
from time import monotonic as now
from typing import Final, NamedTuple

from loadgen.ledger import Ledger
from loadgen.measure import Tally
from loadgen.payments import Payment, Shot
from loadgen.settings import LoadgenSettings
from loadgen.targets import ACCEPTED, Answer, Record, Target, is_for_now
from wire.messages import Transaction, encode

LIMIT: Final = Decimal(900)
"""Amounts above it are counted, so that a run says what share it sent."""
PAUSE_S: Final = 0.02
MAX_ATTEMPTS: Final = 6
"""Times that one transaction is sent at most, with retries on."""


async def until(reached: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so, at most for a time; looked at now and then.

    For ends that come once a run: an event would have to be thought of with every send.
    """
    deadline = now() + seconds
    while not reached() and now() < deadline:  # noqa: ASYNC110 - see above
        await asyncio.sleep(PAUSE_S)


class Start(NamedTuple):
    """The moment at which a run's schedule begins."""

    at: float
    """Reading of the monotonic clock."""
    epoch: float
    """The same moment in seconds since the Unix epoch."""


class Run:
    """One run, or one process's share of it, against one target."""

    def __init__(
        self,
        settings: LoadgenSettings,
        target: Target,
        tally: Tally,
        *,
        prefix: str,
        ledger: Ledger | None = None,
    ) -> None:
        self.in_flight = 0
        """Transactions sent and not answered yet."""
        self.ended = math.inf
        """The clock's reading when sending ended."""
        self._settings = settings
        self._target = target
        self._tally = tally
        self._prefix = prefix
        self._ledger = ledger
        self._number = 0
        self._latest = 0.0
        """The clock's reading at the last send, or when that was due if a timer was early."""
        self._over = asyncio.Event()

    def stop(self) -> None:
        """Send nothing more; the run ends when what is in flight is answered."""
        self._end(now())

    def _end(self, at: float) -> None:
        if not self._over.is_set():
            self._over.set()
            # What an early timer has sent was due, too.
            self.ended = max(at, self._latest)

    async def drive(self, shots: Iterator[Shot], start: Start) -> float:
        """Send until the schedule ends or `stop` is called, and wait for the answers.

        Returns:
            for how many seconds it sent.
        """
        senders = [
            asyncio.create_task(self._sender(shots, start))
            for _ in range(self._settings.loadgen_connections)
        ]
        everything = asyncio.create_task(asyncio.wait(senders, return_when=asyncio.FIRST_EXCEPTION))
        everything.add_done_callback(lambda _: self._end(self._scheduled_end(senders, start)))
        try:
            await self._over.wait()
            self._drop_overdue(shots, start)
            await until(lambda: not self.in_flight, self._settings.loadgen_grace)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.wait({everything, *senders})
        for sender in senders:
            if not sender.cancelled():
                sender.result()
        self._tally.cut_off += self.in_flight
        return self.ended - start.at

    def _scheduled_end(self, senders: Iterable[asyncio.Task[None]], start: Start) -> float:
        """Give when the schedule ends, a moment after its last send, if that is why all is over."""
        if any(not each.done() or each.cancelled() or each.exception() for each in senders):
            return now()
        # Where a file ends, that is with the last send.
        return 0.0 if self._settings.loadgen_replay else start.at + self._settings.seconds

    def _drop_overdue(self, shots: Iterator[Shot], start: Start) -> None:
        """Count what was due before the end and never got its turn."""
        for shot in shots:
            if start.at + shot.due > self.ended:
                break
            self._tally.dropped += len(shot.payments)

    async def _sender(self, shots: Iterator[Shot], start: Start) -> None:
        tally = self._tally
        late_after = self._settings.loadgen_late_after
        drop_after = self._settings.loadgen_drop_after
        for shot in shots:
            due = start.at + shot.due
            try:
                wait = due - now()
                if wait > 0:
                    await asyncio.sleep(wait)
            finally:
                if self._over.is_set() and due <= self.ended:  # it never gets its turn
                    tally.dropped += len(shot.payments)
            if self._over.is_set():
                return
            behind = now() - due
            if behind > drop_after:
                tally.dropped += len(shot.payments)
                continue
            if behind > late_after:
                tally.late += len(shot.payments)
            # A timer may fire a little early; then the time counts from the send.
            since = due + min(behind, 0.0)
            self._latest = max(self._latest, due + max(behind, 0.0))
            first = self._number + 1
            records = self._records(shot, since=since, epoch=start.epoch)
            await self._deliver(records, first=first, since=since)

    async def _deliver(self, records: Sequence[Record], *, first: int, since: float) -> None:
        tally = self._tally
        tally.sent += len(records)
        self.in_flight += len(records)
        numbers: Sequence[int] = range(first, first + len(records))
        for attempt in range(MAX_ATTEMPTS):
            tally.requests += 1
            answer = await self._target.send(records)
            if ACCEPTED in answer.codes:
                tally.latency.record(now() - since)
            left = self._settle(answer, numbers, again=self._may_retry(attempt))
            self.in_flight -= len(numbers) - len(left)
            if not left:
                return
            records = [records[at] for at in left]
            numbers = [numbers[at] for at in left]
            await asyncio.sleep(answer.retry_after)

    def _may_retry(self, attempt: int) -> bool:
        more = attempt + 1 < MAX_ATTEMPTS and not self._over.is_set()
        return self._settings.loadgen_retry and more

    def _settle(self, answer: Answer, numbers: Sequence[int], *, again: bool) -> list[int]:
        """Count an answer; give the places of the records that are to be sent again."""
        left = []
        for at, code in enumerate(answer.codes):
            if code == ACCEPTED:
                self._tally.accepted += 1
                if self._ledger:
                    self._ledger.accepted(numbers[at])
            elif again and is_for_now(code):
                self._tally.retried[code] += 1
                left.append(at)
            else:
                self._tally.errors[code] += 1
        return left

    def _records(self, shot: Shot, *, since: float, epoch: float) -> list[Record]:
        at = datetime.fromtimestamp(epoch + shot.due, UTC)
        return [self._record(payment, since, at) for payment in shot.payments]

    def _record(self, payment: Payment, since: float, at: datetime) -> Record:
        self._number = number = self._number + 1
        source, target, amount, currency, label = payment
        self._tally.labels[label] += 1
        if amount > LIMIT:
            self._tally.above_limit += 1
        if self._ledger:
            self._ledger.sent(number, since=since, amount=amount, label=label)
        value = encode(Transaction(f"{self._prefix}{number}", source, target, amount, currency, at))
        return Record(source.encode(), value)
