"""What a step costs: the median of a bounded number of samples, spread evenly over the run.

A sample is the mean of the steps of a batch. Of the samples the median, because their mean would
count whatever else the machine did in the meantime.
"""

import time
from statistics import median
from typing import Final

MAX_SAMPLES: Final = 4_096


class Cost:
    """Samples of one step's duration."""

    def __init__(self) -> None:
        self._nanoseconds: list[float] = []
        self._stride = 1
        self._batches = 0

    def add(self, began_ns: int, steps: int) -> None:
        """Take in so many steps that end now and began at that reading of `perf_counter_ns`."""
        spent = (time.perf_counter_ns() - began_ns) / steps
        self._batches += 1
        if self._batches % self._stride:
            return
        self._nanoseconds.append(spent)
        if len(self._nanoseconds) == MAX_SAMPLES:
            del self._nanoseconds[::2]
            self._stride *= 2

    @property
    def microseconds(self) -> float | None:
        """The median; None without a sample."""
        return median(self._nanoseconds) / 1000 if self._nanoseconds else None
