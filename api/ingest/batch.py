"""A record batch of ours: records of one partition that reach Kafka, or don't, together."""

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import count, repeat
from typing import Any, Final

from api.errors import DeliveryError
from api.ingest.producer import Producer
from wire.tracing import Headers

RECORD_OVERHEAD_BYTES: Final = 100
"""What a record costs in memory beside its key and value, about."""
NO_HEADERS: Headers = []  # the same one for all: aiokafka wants a list


class Batch:
    """Gathers records until it is handed to a producer; settled once, for all of its records."""

    __slots__ = (
        "_builder",
        "_watchers",
        "base_offset",
        "began",
        "bytes",
        "count",
        "error",
        "partition",
        "producer",
        "settled",
        "timer",
    )

    def __init__(self, partition: int, builder: Any) -> None:
        self.partition = partition
        self.count = 0
        self.began = time.monotonic()
        """When it was made, for its first record."""
        self.bytes = 0
        """What it weighs in the outbox's budget: see `weight`."""
        self.producer: Producer | None = None
        """Who has it; None while nobody can have sent it."""
        self.settled = False
        self.base_offset = -1
        """Offset of the first record, once Kafka has acknowledged the batch."""
        self.error: DeliveryError | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._builder = builder
        self._watchers: list[Callable[[Batch], None]] = []

    def append(
        self, timestamp_ms: int, key: bytes, value: bytes, headers: Headers = NO_HEADERS
    ) -> bool:
        """Add a record, unless the batch is full or was taken."""
        builder = self._builder
        if builder is None or (
            builder.append(self.count, timestamp_ms, key, value, headers) is None
        ):
            return False
        self.count += 1
        self.bytes += len(key) + len(value) + RECORD_OVERHEAD_BYTES
        return True

    def extend(
        self,
        timestamp_ms: int,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        headers: Headers = NO_HEADERS,
    ) -> int:
        """Add records until the batch is full; give how many it took."""
        if self._builder is None:
            return 0
        numbers = count(self.count)
        fields = (numbers, repeat(timestamp_ms), keys, values, repeat(headers))
        # It gives None for a record that does not fit: those behind are not tried then.
        if not all(map(self._builder.append, *fields)):
            taken = next(numbers) - self.count - 1
            keys, values = keys[:taken], values[:taken]
        self.count += len(keys)
        self.bytes += weight(keys, values)
        return len(keys)

    def take(self, producer: Producer) -> Any:
        """Close the batch, to be sent by a producer; give what builds it."""
        builder, self._builder = self._builder, None
        self.producer = producer
        return builder

    def settle(self, base_offset: int = -1, error: DeliveryError | None = None) -> None:
        """Fix the outcome and tell whoever waits for it; only the first call counts."""
        if self.settled:
            return
        self.settled = True
        self.base_offset = base_offset
        self.error = error
        self._builder = None
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher(self)

    def watch(self, watcher: Callable[["Batch"], None]) -> None:
        """Have this called when it is settled, which it is not yet; it must not raise."""
        self._watchers.append(watcher)

    def landed(self) -> asyncio.Future[None]:
        """Give a future that is done once it is settled.

        A new one for each caller: a request that is cancelled must not cancel the others'.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_batch: Batch) -> None:
            if not waiter.done():
                waiter.set_result(None)

        if self.settled:
            wake(self)
        else:
            self.watch(wake)
        return waiter

    def offset(self, index: int) -> int:
        """Give the offset of one of the records of a settled batch, counted from 0.

        Raises:
            UnreachableError: it was not sent.
            NotAcknowledgedError: it may or may not be in Kafka.
        """
        if self.error is not None:
            raise self.error
        return self.base_offset + index


def weight(keys: Sequence[bytes], values: Sequence[bytes]) -> int:
    """Give what records weigh in the outbox's budget, in bytes."""
    return sum(map(len, keys)) + sum(map(len, values)) + RECORD_OVERHEAD_BYTES * len(keys)
