"""Token buckets: how often something may happen, for many at a time, in bounded memory.

Pure: the time is passed in, in seconds of a clock that never goes back.
"""

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

TOLERANCE_S: Final = 1e-6
"""So much too early is in time: sums of floating-point numbers are not exact."""


class Buckets:
    """A bucket for each key, full of `burst` tokens at first and refilled at `rate` a second.

    All that is kept of a bucket is when it will be full again (the generic cell rate algorithm,
    ITU-T I.371); so a full one need not be kept at all. Beyond `most` of them the one used
    longest ago is forgotten, and is full when its key comes again.
    """

    def __init__(self, rate: float, burst: int, most: int) -> None:
        self.rate = rate
        self.burst = burst
        self._most = most
        self._fills_in = burst / rate
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable, now: float) -> float:
        """Take one token; give 0.0, or in how many seconds there will be one to take."""
        full_at = self._full_at.get(key, now)
        at = (max(now, full_at)) + 1 / self.rate
        wait = at - now - self._fills_in
        if wait > TOLERANCE_S:
            self._full_at.move_to_end(key)  # who is in debt is not the one to forget
            return wait
        self._keep(key, at)
        return 0.0

    def spend(self, key: Hashable, tokens: int, now: float) -> None:
        """Take tokens, whether they are there or not: nothing is given until a debt is paid."""
        self._keep(key, max(self._full_at.get(key, now), now) + tokens / self.rate)

    def left(self, key: Hashable, now: float) -> int:
        """Count the tokens that are there; none in a bucket in debt."""
        missing = max(0.0, self._full_at.get(key, now) - now) * self.rate
        return max(0, math.floor(self.burst - missing + TOLERANCE_S))

    def _keep(self, key: Hashable, full_at: float) -> None:
        buckets = self._full_at
        buckets[key] = full_at
        buckets.move_to_end(key)
        if len(buckets) > self._most:
            buckets.popitem(last=False)
