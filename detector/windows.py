"""What one partition remembers of its recent transactions, by event time, within a bound.

All take in a batch at a time, and answer for each of it by what came before and in it up to there:
a column of answers costs a fraction of asking one by one.

* `Recent`: was this key there within the window? (duplicates)
* `Counterparties`: has this account paid that one within the window?
* `Tally` (tally.py): how many transactions, and how much, has this account within the window?

**Time** is stream time: the greatest record timestamp so far. A record that is behind it (clocks
of two gateways differ, a producer tried again) counts at stream time. So time never runs
backwards, entries expire from the old end, and expiry is O(1) a record, amortised. The price: a
record stamped d ms ahead shortens windows by up to d ms at first, since what lies before it expires
too soon; and until the other clocks have caught up with it, all else counts at its time, so that
windows are up to d ms longer when that is in them. The broker bounds d: it refuses what is further
ahead than the topic's message.timestamp.after.max.ms, an hour unless set.

**Replay**: what a window answers depends only on the records of the last `window_ms`. Where
reading begins at the first record stamped `t - window_ms` or later (Kafka's offset for a
timestamp), all those before it were at a stream time below that, so none counts at time t.

**Bound**: each window holds at most `WindowLimits.entries`, and a batch for as long as it is taken
in; beyond that the oldest entry goes first, and is counted in `evicted`. What that costs: a
duplicate or a counterparty is forgotten early, a count or sum comes out too small. As the newest
entries stay whatever went before, a window that evicts comes out of a replay as it was, too.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeVar, cast

from wire.messages import Transaction

SEPARATOR: Final = "\n"
"""Joins the parts of a key; no identifier has control characters, so keys can't collide."""
EXPIRE_EVERY_MS: Final = 1_000
"""Keys that have expired go together, after this time at the latest: one by one costs more."""
LOOKS_FOR_OLDEST: Final = 32
"""How often the oldest entries are looked for while as many as there are go: a list of some."""
SPARSE: Final = 8
"""A window that once held so many times as many entries is packed anew."""


class WindowLimits(NamedTuple):
    """How much one partition may remember."""

    entries: int = 500_000
    """Most entries in each window: the duplicates', and each that a rule asks for.

    Measured, a million entries: duplicates 176 MB (with UUIDs as ids), counterparties 159 MB,
    a tally that counts 66 MB, one that sums 107 MB (`python -m benchmarks.rules`).
    """


DEFAULT_LIMITS: Final = WindowLimits()


class Window(Protocol):
    """A memory of transactions; its answers are about those added last, one for each."""

    @property
    def evicted(self) -> int:
        """Entries that went before their time because the window was full."""

    def __len__(self) -> int:
        """Give the number of entries held."""

    def add(self, transactions: Sequence[Transaction], times_ms: Sequence[int]) -> None:
        """Take in consecutive transactions, each at its stream time."""


W_co = TypeVar("W_co", bound=Window, covariant=True)


class WindowSpec(Protocol[W_co]):
    """Which window a rule wants. Rules with equal specs read the same window."""

    @property
    def window_ms(self) -> int:
        """How far back it reaches."""

    def open(self, entries: int) -> W_co:
        """Make the window, empty, for so many entries at most."""


class Recent:
    """Keys, and when each was last there. The whole text is kept: no hash, so no collisions."""

    __slots__ = ("_entries", "_last", "_most", "_next_to_go", "_oldest_ms", "evicted", "window_ms")

    def __init__(self, window_ms: int, entries: int) -> None:
        self.window_ms = window_ms
        self.evicted = 0
        self._entries = entries
        self._last: dict[str, int] = {}
        """In the order of their times: a key that comes again moves to the end."""
        self._next_to_go: dict[str, int] = {}
        """Its first entries, the oldest one last: a dict has no cheap way to its first entry,
        since it steps over all those that were there."""
        self._oldest_ms = 0
        """No entry is older than this."""
        self._most = 0
        """As many entries were there at once since they were packed last."""

    def __len__(self) -> int:
        return len(self._last)

    def saw(self, keys: Sequence[str], times_ms: Sequence[int]) -> list[bool]:
        """Tell of each key if it was there less than `window_ms` ago, and note it for the next.

        Being there again counts: a key that keeps coming is remembered for as long as it does.
        Otherwise the answer would hang on how the first of them was judged, and so on the whole
        log.
        """
        answers: list[bool] = []
        first = 0
        while first < len(keys):
            # Up to where it is time to expire again.
            until_ms = self._oldest_ms + self.window_ms + EXPIRE_EVERY_MS
            end = bisect_left(times_ms, until_ms, first)
            if end > first:
                answers += self._saw(keys[first:end], times_ms[first:end])
                first = end
            else:
                self._expire(times_ms[first] - self.window_ms)
        return answers

    def _saw(self, keys: Sequence[str], times_ms: Sequence[int]) -> list[bool]:
        last = self._last
        new = dict(zip(keys, times_ms, strict=True))
        if len(new) < len(keys) or not last.keys().isdisjoint(new):
            return self._saw_each(keys, times_ms)
        last.update(new)
        excess = len(last) - self._entries
        if excess > 0:
            for time_ms in times_ms[-excess:]:
                self._evict(time_ms)
        return [False] * len(keys)

    def _saw_each(self, keys: Sequence[str], times_ms: Sequence[int]) -> list[bool]:
        """Do the same one by one: some were there before, or come twice."""
        last, entries, window_ms = self._last, self._entries, self.window_ms
        answers: list[bool] = []
        answer = answers.append
        for key, time_ms in zip(keys, times_ms, strict=True):
            seen_ms = last.pop(key, None)
            last[key] = time_ms
            if seen_ms is None:
                answer(False)
                if len(last) > entries:
                    self._evict(time_ms)
            else:
                self._next_to_go.pop(key, None)
                answer(time_ms - seen_ms < window_ms)
        return answers

    def _evict(self, time_ms: int) -> None:
        """Let the oldest entry go for want of room; it counts if its time was not over."""
        key, seen_ms = self._oldest()
        del self._last[key]
        self.evicted += time_ms - seen_ms < self.window_ms

    def _expire(self, upto_ms: int) -> None:
        last = self._last
        self._most = max(self._most, len(last))
        while last:
            key, self._oldest_ms = self._oldest()
            if self._oldest_ms > upto_ms:
                self._next_to_go[key] = self._oldest_ms
                break
            del last[key]
        else:
            self._oldest_ms = upto_ms + 1
        if len(last) * SPARSE < self._most:
            # What a burst has left behind takes memory, and is stepped over at each look.
            self._last, self._most = dict(last), len(last)

    def _oldest(self) -> tuple[str, int]:
        """Give the oldest entry, out of those that are next to go."""
        if not self._next_to_go:
            count = 1 + len(self._last) // LOOKS_FOR_OLDEST
            oldest = list(islice(self._last.items(), count))
            self._next_to_go.update(reversed(oldest))
        return self._next_to_go.popitem()


@dataclass(frozen=True, slots=True)
class CounterpartiesSpec:
    """How long an account's counterparties are remembered."""

    window_ms: int

    def open(self, entries: int) -> "Counterparties":
        """Make the window, empty."""
        return Counterparties(self.window_ms, entries)


class Counterparties:
    """Whom each account has paid within the window; an entry a pair."""

    __slots__ = ("_pairs", "known")

    def __init__(self, window_ms: int, entries: int) -> None:
        self.known: list[bool] = []
        """Of each transaction added last: False if it is the account's first to its target."""
        self._pairs = Recent(window_ms, entries)

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def evicted(self) -> int:
        """Entries that went before their time because the window was full."""
        return self._pairs.evicted

    def add(self, transactions: Sequence[Transaction], times_ms: Sequence[int]) -> None:
        """Take in consecutive transactions, each at its stream time."""
        pairs = [f"{each.source}{SEPARATOR}{each.target}" for each in transactions]
        self.known = self._pairs.saw(pairs, times_ms)


class Windows:
    """The windows that the rules of one partition read."""

    def __init__(self, limits: WindowLimits) -> None:
        self._limits = limits
        self._held: dict[WindowSpec[Window], Window] = {}
        self._evicted_before = 0

    def __getitem__(self, spec: WindowSpec[W_co]) -> W_co:
        """Give the window of that kind; it must be among those `keep` named last."""
        return cast("W_co", self._held[spec])

    @property
    def specs(self) -> Set[WindowSpec[Window]]:
        """The windows that are there."""
        return self._held.keys()

    @property
    def entries(self) -> int:
        """Entries held, in all windows."""
        return sum(map(len, self._held.values()))

    @property
    def evicted(self) -> int:
        """Entries that went before their time, in all windows there ever were."""
        return self._evicted_before + _evicted(self._held.values())

    def keep(self, specs: Collection[WindowSpec[Window]]) -> None:
        """Hold these: those that are there stay as they are, others go, missing ones open."""
        dropped = [window for spec, window in self._held.items() if spec not in specs]
        self._evicted_before += _evicted(dropped)
        self._held = {
            spec: self._held[spec] if spec in self._held else spec.open(self._limits.entries)
            for spec in specs
        }

    def add(self, transactions: Sequence[Transaction], times_ms: Sequence[int]) -> None:
        """Take in consecutive transactions, each at its stream time; answers are about those."""
        for window in self._held.values():
            window.add(transactions, times_ms)


def _evicted(windows: Iterable[Window]) -> int:
    return sum(window.evicted for window in windows)
