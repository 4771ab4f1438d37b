"""The verdicts recorded on the transactions of one partition, read along with them.

A verdict lies in the partition of the same number as its transaction, and a partition's verdicts
are in the order of its transactions: so each topic is read just as far as the next verdict asked
for, and only the little that was read ahead is held in memory.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from aiokafka import TopicPartition

from detector.backtest.cursor import Cursor, ends
from detector.backtest.result import Reference
from detector.backtest.settings import BacktestSettings
from wire.errors import MessageError
from wire.kafka import RawClient
from wire.messages import Transaction, decode_verdict
from wire.records import Record

SLACK_MS: Final = 60_000
"""How far ahead a verdict is looked for, and how far the clocks of two machines may differ."""
TIDY_ABOVE: Final = 50_000
"""With more verdicts held than this, those that nothing will ask for any more are let go."""

SETTLE_S: Final = 10.0
"""A transaction younger than this may get its verdict yet: it is waited for."""
LOOK_EVERY_S: Final = 0.1

_Key = tuple[str, str, int]
"""Source, id, and the timestamp of the transaction's record: an id may come again later."""


class Verdicts:
    """What was recorded in the verdict topics' partition of a number."""

    def __init__(
        self,
        client: RawClient,
        settings: BacktestSettings,
        number: int,
        there: Mapping[TopicPartition, int],
    ) -> None:
        """Make a reader of what was there, up to these ends, and of what comes while it reads."""
        self.extra = 0
        """Records that were not asked for: of no transaction, a second verdict, or no verdict."""
        self._client = client
        self._settings = settings
        self._since_ms = settings.backtest_since
        self._ends = there
        self._cursors = [
            Cursor(client, settings, TopicPartition(topic, number))
            for topic in (settings.legit_topic, settings.fraud_topic)
        ]
        self._newest_ms = dict.fromkeys(self._cursors, 0)
        self._held: dict[_Key, Reference] = {}
        self._came_later: set[_Key] = set()
        """Those of them that may be on a transaction behind the end of what is judged."""
        self._has_looked = False
        self._patient_until = time.monotonic() + SETTLE_S
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for cursor in self._cursors:
                await stack.enter_async_context(cursor)
                # A verdict is written after its transaction, so it is stamped later.
                since_ms = None if self._since_ms is None else self._since_ms - SLACK_MS
                await cursor.span(since_ms, None, self._ends[cursor.partition])
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def on(self, transaction: Transaction, received_ms: int) -> Reference | None:
        """Give the verdict on a transaction, reading on as far as it takes; None: there is none."""
        key = transaction.source, transaction.transaction_id, received_ms
        while (found := self._held.pop(key, None)) is None:
            behind = [cursor for cursor in self._cursors if not cursor.done]
            cursor = min(behind, key=self._newest_ms.__getitem__, default=None)
            if cursor is None:
                if not await self._goes_on(received_ms):
                    return None
                continue
            if self._newest_ms[cursor] > received_ms + SLACK_MS:
                return None
            for record in await cursor.read():
                self._hold(cursor, record)
        self._came_later.discard(key)
        return found

    async def _goes_on(self, received_ms: int) -> bool:
        """Look where the topics end by now; False where no verdict is to be waited for any more.

        Detectors are a little behind the log's end, which may be that of a moment ago.
        """
        age_s = time.time() - received_ms / 1000
        is_settled = age_s > SETTLE_S or time.monotonic() > self._patient_until
        if self._has_looked:
            if is_settled:
                return False
            await asyncio.sleep(LOOK_EVERY_S)
        self._has_looked = True
        partitions = [cursor.partition for cursor in self._cursors]
        there = await ends(self._client, self._settings, partitions)
        for cursor in self._cursors:
            cursor.go_on(there[cursor.partition])
        return True

    async def finish(self, first_ms: int, last_ms: int) -> None:
        """Read on to the end of the range, and count what in it was not asked for."""
        for cursor in self._cursors:
            while not cursor.done and self._newest_ms[cursor] <= last_ms + SLACK_MS:
                for record in await cursor.read():
                    self._hold(cursor, record)
        self.let_go(first_ms, last_ms + 1)

    def tidy(self, first_ms: int, now_ms: int) -> None:
        """Let go of what is too old to be asked for, if it has become much."""
        if len(self._held) > TIDY_ABOVE:
            self.let_go(first_ms, now_ms - SLACK_MS)

    def let_go(self, first_ms: int, upto_ms: int) -> None:
        """Forget verdicts on records before `upto_ms`; those from `first_ms` on are extra."""
        for key in [key for key in self._held if key[2] < upto_ms]:
            del self._held[key]
            self.extra += key[2] >= first_ms and key not in self._came_later
            self._came_later.discard(key)

    def _hold(self, cursor: Cursor, record: Record) -> None:
        is_later = record.offset >= self._ends[cursor.partition]
        try:
            verdict = decode_verdict(record.value or b"")
        except MessageError:
            self.extra += not is_later
            return
        received_ms = round(verdict.received_at.timestamp() * 1000)
        self._newest_ms[cursor] = max(self._newest_ms[cursor], received_ms)
        key = verdict.source, verdict.transaction_id, received_ms
        self.extra += key in self._held
        if is_later:
            self._came_later.add(key)
        self._held[key] = Reference(verdict.decision, verdict.score, verdict.reasons)
