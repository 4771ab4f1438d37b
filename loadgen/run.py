"""The run itself: take what is due, send it, count what came of it. Open loop.

Each of the connections has a sender that takes the next shot from the common schedule, sleeps
until it is due and sends it. While all of them wait for answers, shots fall due unsent: they go
out late as soon as a sender is free, their latency still counted from the due time, and past a
bound they are dropped. So nothing queues up here, however long the server stalls.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from time import monotonic as now  # not the loop's time: uvloop keeps it in whole milliseconds
from time import time
from typing import Final

from loadgen.measure import Tally
from loadgen.payments import Payment, Shot
from loadgen.settings import LoadgenSettings
from loadgen.targets import ACCEPTED, Answer, Record, Target
from wire.messages import Transaction, encode

LIMIT: Final = Decimal(900)
DRAIN_PAUSE_S: Final = 0.02


class Run:
    """One run against one target."""

    def __init__(
        self, settings: LoadgenSettings, target: Target, shots: Iterator[Shot], tally: Tally
    ) -> None:
        self._settings = settings
        self._target = target
        self._shots = shots
        self._tally = tally
        self._prefix = settings.loadgen_run_id + "-"
        self._number = 0
        self._stopping = asyncio.Event()
        self._start = 0.0
        self._epoch = 0.0

    def stop(self) -> None:
        """Send nothing more; the run ends when what is in flight is answered."""
        self._stopping.set()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return now() - self._start

    async def drive(self) -> None:
        """Send until the schedule ends or `stop` is called, and wait for the answers."""
        self._start = now()
        self._epoch = time()
        senders = [
            asyncio.create_task(self._sender()) for _ in range(self._settings.loadgen_connections)
        ]
        stopped = asyncio.create_task(self._stopping.wait())
        everything = asyncio.gather(*senders)
        everything.add_done_callback(lambda _: self._stopping.set())
        try:
            await stopped
            await self._drained(self._settings.loadgen_grace)
        finally:
            for task in (stopped, *senders):
                task.cancel()
            await asyncio.wait({stopped, *senders})
        everything.exception()

    async def _drained(self, seconds: float) -> None:
        deadline = now() + seconds
        while self._tally.in_flight and now() < deadline:  # noqa: ASYNC110 - no event a send
            await asyncio.sleep(DRAIN_PAUSE_S)

    async def _sender(self) -> None:
        tally = self._tally
        late_after = self._settings.loadgen_late_after
        drop_after = self._settings.loadgen_drop_after
        for shot in self._shots:
            due = self._start + shot.due
            wait = due - now()
            if wait > 0:
                await asyncio.sleep(wait)
            if self._stopping.is_set():
                return
            count = len(shot.payments)
            tally.due += count
            behind = now() - due
            if behind > drop_after:
                tally.dropped += count
                continue
            if behind > late_after:
                tally.late += count
            # A timer may fire a little early; then the time counts from the send.
            await self._deliver(shot, since=due + min(behind, 0.0))

    async def _deliver(self, shot: Shot, *, since: float) -> None:
        tally = self._tally
        records = self._records(shot)
        tally.requests += 1
        tally.sent += len(records)
        tally.in_flight += 1
        try:
            answer = await self._target.send(records)
        finally:
            tally.in_flight -= 1
        tally.recent.record(now() - since)
        _count(answer, tally)

    def _records(self, shot: Shot) -> list[Record]:
        at = datetime.fromtimestamp(self._epoch + shot.due, UTC)
        return [self._record(payment, at) for payment in shot.payments]

    def _record(self, payment: Payment, at: datetime) -> Record:
        self._number += 1
        source, target, amount, currency, label = payment
        self._tally.labels[label] += 1
        if amount > LIMIT:
            self._tally.above_limit += 1
        value = encode(
            Transaction(f"{self._prefix}{self._number}", source, target, amount, currency, at)
        )
        return Record(source.encode(), value)


def _count(answer: Answer, tally: Tally) -> None:
    for code in answer.codes:
        if code == ACCEPTED:
            tally.accepted += 1
        else:
            tally.errors[code] += 1
