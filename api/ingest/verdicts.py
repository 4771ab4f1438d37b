"""Recent verdicts by transaction_id, and who waits for one: fed by what the hub reads anyway."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Final

import msgspec

from api.streams.event import Event
from wire.messages import Identifier

PENDING: Final = b""
"""Stands for a verdict that is not there yet."""
ENTRY_BYTES: Final = 256
"""What a transaction takes in memory beside its verdict, about: its id, a place in the index."""


class _Reference(msgspec.Struct):
    """What of a verdict is needed to find it."""

    transaction_id: Identifier
    source: Identifier


_reference = msgspec.json.Decoder(_Reference)


class Expectation:
    """One request that may wait for the verdict on one transaction."""

    def __init__(self, verdict: bytes = PENDING) -> None:
        self._arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if verdict:
            self._arrived.set_result(verdict)

    def arrive(self, verdict: bytes) -> None:
        """Hand the verdict over."""
        if not self._arrived.done():
            self._arrived.set_result(verdict)

    async def within(self, seconds: float) -> bytes | None:
        """Wait for the verdict; give its JSON, or None if the time is over first."""
        await asyncio.wait([self._arrived], timeout=max(0.0, seconds))
        return (self._arrived.done() and self._arrived.result()) or None


class Verdicts:
    """A bounded index: at least `size` transactions are known, at most twice as many are held.

    They take no more than `max_bytes`; of large verdicts fewer are known.

    Two generations: when the young one is full, it becomes the old one, and the old one goes.
    """

    def __init__(self, size: int, max_bytes: int, max_waiters: int) -> None:
        self._size = size
        self._max_bytes = max_bytes // 2  # of each generation
        self._bytes = 0
        self._max_waiters = max_waiters
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._expected: dict[tuple[str, str], list[Expectation]] = {}
        self.waiters = 0

    def saw(self, events: Sequence[Event]) -> None:
        """Take in verdicts that were read from Kafka (a tap of the hub)."""
        for event in events:
            try:
                reference = _reference.decode(event.value)
            except (ValueError, RecursionError):  # the hub logs what is no verdict
                continue
            transaction_id = reference.transaction_id
            self._put(transaction_id, event.value)
            for expectation in self._expected.get((reference.source, transaction_id), ()):
                expectation.arrive(event.value)

    def accepted(self, transaction_id: str) -> None:
        """Note that Kafka has a transaction; its verdict may have come already."""
        if transaction_id not in self._young and transaction_id not in self._old:
            self._put(transaction_id, PENDING)

    def accepted_all(self, transaction_ids: Sequence[str], *, unheard_of: bool = False) -> None:
        """Note that Kafka has transactions; some verdicts may have come already.

        Ids that nobody had `unheard_of` until they were made are not looked for among the old ones.
        """
        left = transaction_ids
        while left:
            if not unheard_of and not self._old.keys().isdisjoint(left):
                left = [each for each in left if each not in self._old]
            young, before = self._young, len(self._young)
            room = min((self._max_bytes - self._bytes) // ENTRY_BYTES, self._size - before)
            if room <= 0:
                self._age()
                continue
            deque(map(young.setdefault, left[:room], repeat(PENDING)), maxlen=0)
            self._bytes += ENTRY_BYTES * (len(young) - before)
            left = left[room:]

    def find(self, transaction_id: str) -> bytes | None:
        """Give the verdict's JSON, PENDING, or None for an id that is not known (any more)."""
        verdict = self._young.get(transaction_id)
        return verdict or self._old.get(transaction_id, verdict)

    @contextmanager
    def expecting(self, source: str, transaction_id: str) -> Iterator[Expectation | None]:
        """Expect a verdict from now on; None if too many wait already.

        A transaction that was sent before may have its verdict already: there is no second one.
        """
        if self.waiters >= self._max_waiters:
            yield None
            return
        expectation = Expectation(self._known(source, transaction_id))
        key = (source, transaction_id)
        self._expected.setdefault(key, []).append(expectation)
        self.waiters += 1
        try:
            yield expectation
        finally:
            self.waiters -= 1
            self._expected[key].remove(expectation)
            if not self._expected[key]:
                del self._expected[key]

    def release(self) -> None:
        """Let nobody wait any longer."""
        for expectations in self._expected.values():
            for expectation in expectations:
                expectation.arrive(PENDING)

    def _known(self, source: str, transaction_id: str) -> bytes:
        verdict = self.find(transaction_id)
        # Another account may have used the same id.
        if verdict and _reference.decode(verdict).source == source:
            return verdict
        return PENDING

    def _put(self, transaction_id: str, verdict: bytes) -> None:
        before = self._young.get(transaction_id)
        more = len(verdict) + ENTRY_BYTES if before is None else len(verdict) - len(before)
        if self._bytes + more > self._max_bytes or (
            before is None and len(self._young) >= self._size
        ):
            self._age()
            more = len(verdict) + ENTRY_BYTES
        self._young[transaction_id] = verdict
        self._bytes += more

    def _age(self) -> None:
        self._old = self._young
        self._young = {}
        self._bytes = 0
