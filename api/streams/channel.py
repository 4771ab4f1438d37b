"""One stream's live side: events encoded once, for all its clients."""

from collections.abc import Sequence

from api import transport
from api.masking import Viewer
from api.streams import sse
from api.streams.event import Event
from api.streams.filters import Filter
from api.streams.position import Cursor, Position
from api.streams.subscription import Subscription


class Audience:
    """The live clients that want the same, and may see the same: one filter, or none."""

    __slots__ = ("_blocks", "_moved", "members", "only", "viewer")

    def __init__(self, only: Filter | None) -> None:
        self.only = only
        self.viewer = Viewer() if only is None else only.viewer
        self.members: set[Subscription] = set()
        self._blocks: list[bytes] = []
        self._moved = False

    @property
    def is_masked(self) -> bool:
        """Whether accounts are hidden from them."""
        return self.viewer.is_masked

    def add(self, event: Event, block: bytes) -> None:
        """Add an event's block to the next chunk if it is wanted here."""
        if self.only is None or self.only.matches(event):
            self._blocks.append(block)

    def flush(self) -> int:
        """Hand the chunk to the clients; give how many events that were, over all clients."""
        self._moved = not self._blocks
        handed_out = len(self._blocks) * len(self.members)
        if self._blocks:
            self.say(b"".join(self._blocks))
            self._blocks.clear()
        return handed_out

    def tell_progress(self, position: bytes) -> None:
        """Hand out the position if nothing came through the filter since it moved."""
        if self._moved:
            self._moved = False
            self.say(sse.progress(position))

    def say(self, chunk: bytes) -> None:
        """Hand a chunk to the clients; one that is behind too far drops out."""
        framed = transport.framed(chunk)
        for member in self.members:
            member.write(chunk, framed)


class Channel:
    """A stream (fraud, legit or all): where it stands, and who listens."""

    def __init__(self, topics: Sequence[int]) -> None:
        self.cursor = Cursor(Position(dict.fromkeys(topics, ())))
        self.handed_out = 0
        """Events handed to clients; one for ten clients counts ten."""
        self._topics = frozenset(topics)
        self._audiences: dict[Filter | None, Audience] = {}

    @property
    def listeners(self) -> int:
        """How many clients have joined the live stream."""
        return sum(len(audience.members) for audience in self._audiences.values())

    def join(self, member: Subscription, only: Filter | None) -> None:
        """Let a client that stands where the channel stands have what comes."""
        self._audiences.setdefault(only, Audience(only)).members.add(member)

    def leave(self, member: Subscription, only: Filter | None) -> None:
        """Forget a client, if it had joined."""
        audience = self._audiences.get(only)
        if audience is not None:
            audience.members.discard(member)
            if not audience.members:
                del self._audiences[only]

    def publish(self, events: Sequence[Event]) -> None:
        """Encode events and hand them out, in one chunk for each audience."""
        cursor = self.cursor
        audiences = list(self._audiences.values())
        clear = [each for each in audiences if not each.is_masked]
        masked = [each for each in audiences if each.is_masked]
        viewer = masked[0].viewer if masked else Viewer()  # one key a process: the same for all
        any_came = False
        for event in events:
            if event.topic not in self._topics:
                continue
            any_came = True
            cursor.move(event.topic, event.partition, event.offset + 1)
            if clear:
                block = sse.verdict(cursor.id(), event.value)
                for audience in clear:
                    audience.add(event, block)
            if masked and (value := viewer.verdict(event.value)) is not None:
                block = sse.verdict(cursor.id(), value)
                for audience in masked:
                    audience.add(event, block)
        if any_came:
            for audience in audiences:
                self.handed_out += audience.flush()

    def tell_progress(self) -> None:
        """Let clients whose filter let nothing through know where the stream stands."""
        for only, audience in self._audiences.items():
            if only is not None:
                audience.tell_progress(self.cursor.id())

    def tell_gap(self, missing: object) -> None:
        """Tell all clients that history is gone; the cursor has moved past it already."""
        block = sse.gap(self.cursor.id(), missing)
        for audience in self._audiences.values():
            audience.say(block)
