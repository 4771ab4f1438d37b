"""The most recent events of both verdict topics, in the order in which this process read them."""

from collections.abc import Sequence

from api.streams.event import Event
from api.streams.position import Cursor

# What an event costs beside its bytes: the object, its slots and a place in the ring.
EVENT_OVERHEAD_BYTES = 160


class Ring:
    """Bounded by number and by bytes; knows from which offset on each partition is whole."""

    def __init__(self, capacity: int, max_bytes: int) -> None:
        self._slots: list[Event | None] = [None] * capacity
        self._max_bytes = max_bytes
        self._bytes = 0
        self._floors: dict[tuple[int, int], int] = {}
        self._latest: dict[tuple[int, int], int] = {}
        self.first = 0
        """Number of the oldest event held; numbers go up by one and are never used again."""
        self.end = 0
        """Number that the next event gets."""

    def begin(self, topic: int, partition: int, offset: int) -> None:
        """Note that all of a partition's records from this offset on will come."""
        self._floors[topic, partition] = offset

    def extend(self, events: Sequence[Event]) -> None:
        """Add events, letting the oldest go."""
        capacity = len(self._slots)
        for event in events:
            if self.end - self.first == capacity:
                self._let_go()
            self._slots[self.end % capacity] = event
            self.end += 1
            self._latest[event.topic, event.partition] = event.offset
            self._bytes += len(event.value) + EVENT_OVERHEAD_BYTES
            while self._bytes > self._max_bytes:
                self._let_go()

    def clear(self) -> None:
        """Let everything go, as there are records that nobody will find here.

        One number is left out, so that a client which stood at the end stands before it now: what
        is gone is not behind it.
        """
        while self.first < self.end:
            self._let_go()
        self.first = self.end = self.end + 1
        self._latest.clear()

    def reaches(self, cursor: Cursor) -> bool:
        """Tell whether every record from the cursor on has come through here and is still held."""
        return all(
            cursor.next(topic, partition) >= floor
            for (topic, partition), floor in self._floors.items()
            if topic in cursor.topics
        )

    def since(self, cursor: Cursor) -> int:
        """Give the number of the first event that a cursor has not passed; `end` if there is none.

        The cursor must be one that the ring reaches. It is looked for from the end: most clients
        were away for a moment only.
        """
        behind = {
            key
            for key, latest in self._latest.items()
            if key[0] in cursor.topics and latest >= cursor.next(*key)
        }
        found = number = self.end
        while behind and number > self.first:
            number -= 1
            event = self._slots[number % len(self._slots)]
            if event is None or (key := (event.topic, event.partition)) not in behind:
                continue
            if event.offset < cursor.next(*key):
                behind.remove(key)
            else:
                found = number
        return found

    def page(self, number: int, size: int) -> list[Event]:
        """Give up to `size` events from a number on; the number must not be before `first`."""
        capacity = len(self._slots)
        end = min(number + size, self.end)
        return [event for n in range(number, end) if (event := self._slots[n % capacity])]

    def _let_go(self) -> None:
        index = self.first % len(self._slots)
        event = self._slots[index]
        self._slots[index] = None
        self.first += 1
        if event is not None:
            self._bytes -= len(event.value) + EVENT_OVERHEAD_BYTES
            self._floors[event.topic, event.partition] = event.offset + 1
