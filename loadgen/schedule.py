"""The open-loop schedule: at which absolute times a send is due, whatever the server does.

A shape is a list of segments in which the rate changes linearly. Its integral is the number of
sends due up to a time, so the times are the inverse of that integral: at 0, 1, 2, ... for even
spacing, at the sums of exponential steps for a Poisson process (time-rescaling theorem; D. Daley
and D. Vere-Jones, An Introduction to the Theory of Point Processes, 7.4). Nothing is summed up
from step to step, so the schedule does not drift.
"""

import math
import random
from collections.abc import Iterator
from itertools import accumulate, count, repeat
from typing import Final, NamedTuple

POISSON: Final = "poisson"
STEPS: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Default steps, as shares of the rate."""
SPIKE_FACTOR: Final = 5.0
"""Default height of a spike, as a multiple of the rate; it takes the middle tenth of the time."""
# A send due within this of the end, in units of one send, is rounding and no further send.
_ROUNDING: Final = 1e-6


class Segment(NamedTuple):
    """A stretch of time in which the rate goes linearly from one value to another."""

    seconds: float
    first: float
    """Rate at its start, per second."""
    last: float
    """Rate at its end, per second."""

    @property
    def sends(self) -> float:
        """The number of sends that fall due in it: the area under the rate."""
        return self.seconds * (self.first + self.last) / 2

    def at(self, sends: float) -> float:
        """Seconds from its start until so many sends have fallen due."""
        slope = (self.last - self.first) / self.seconds
        root = math.sqrt(max(0.0, self.first**2 + 2 * slope * sends))
        return 2 * sends / (self.first + root) if sends else 0.0


Shape = tuple[Segment, ...]


def shape(arrivals: str, rate: float, seconds: float) -> Shape:
    """Read a shape: constant, ramp[:FROM-TO], steps[:R1,R2,...], spike[:PEAK].

    Args:
        arrivals: the shape; rates in it are sends a second. `poisson` is constant in its shape.
        rate: sends a second, for what `arrivals` leaves open.
        seconds: how long it lasts; `math.inf` is allowed for a constant rate only.

    Raises:
        ValueError: says what is not understood.
    """
    name, _, given = _shape_and_rates(arrivals)
    if name == "constant":
        return (Segment(seconds, rate, rate),)
    if not math.isfinite(seconds):
        raise ValueError(f"{name} needs a duration: only a constant rate can go on for ever")
    if name == "ramp":
        first, last = given or (0.0, rate)
        return (Segment(seconds, first, last),)
    if name == "steps":
        rates = given or tuple(rate * share for share in STEPS)
        return tuple(Segment(seconds / len(rates), each, each) for each in rates)
    (peak,) = given or (rate * SPIKE_FACTOR,)
    around, within = seconds * 0.45, seconds * 0.1
    return Segment(around, rate, rate), Segment(within, peak, peak), Segment(around, rate, rate)


def scaled(segments: Shape, factor: float) -> Shape:
    """Give the same shape with all rates multiplied."""
    return tuple(
        Segment(each.seconds, each.first * factor, each.last * factor) for each in segments
    )


def is_poisson(arrivals: str) -> bool:
    """Tell whether the spacing is random: `poisson`, or a shape with `+poisson`."""
    return _shape_and_rates(arrivals)[1]


def check(arrivals: str) -> str:
    """Give it back if it is understood.

    Raises:
        ValueError: says what is not understood.
    """
    _shape_and_rates(arrivals)
    return arrivals


def times(segments: Shape, *, seed: int | None = None) -> Iterator[float]:
    """Give the times at which sends are due, in seconds from the start, in order.

    Args:
        segments: the shape.
        seed: None for even spacing; else the spacing is a Poisson process made from this seed.
    """
    due = _even() if seed is None else _poisson(random.Random(seed))  # noqa: S311 - a simulation
    sends = next(due)
    start, done = 0.0, 0.0
    for segment in segments:
        end = done + segment.sends
        while sends < end - _ROUNDING:
            yield start + segment.at(max(0.0, sends - done))
            sends = next(due)
        start += segment.seconds
        done = end


class Dues:
    """Counts what has fallen due."""

    def __init__(self, times: Iterator[float]) -> None:
        self._times = times
        self._next = next(times, math.inf)

    def until(self, seconds: float) -> int:
        """Give how many fell due up to a time that the calls before did not count."""
        due = 0
        while self._next <= seconds:
            due += 1
            self._next = next(self._times, math.inf)
        return due


def _even() -> Iterator[float]:
    return map(float, count())


def _poisson(rng: random.Random) -> Iterator[float]:
    return accumulate(rng.expovariate(rate) for rate in repeat(1.0))


def _shape_and_rates(arrivals: str) -> tuple[str, bool, tuple[float, ...]]:
    body, plus, spacing = arrivals.partition("+")
    name, _, text = body.partition(":")
    if plus and spacing != POISSON:
        raise ValueError(f"the spacing is {spacing!r}; expected {POISSON!r} or none")
    if name == POISSON and not text:
        return "constant", True, ()
    separators = {"constant": "", "ramp": "-", "steps": ",", "spike": ""}
    if name not in separators:
        expected = f"{', '.join(separators)} or {POISSON}"
        raise ValueError(f"{name!r} is no shape of arrivals; expected {expected}")
    rates = _rates(text, separators[name]) if text else ()
    if rates and not _fits(name, rates):
        raise ValueError(f"{text!r} does not fit {name}: see --help")
    return name, bool(plus), rates


def _rates(text: str, separator: str) -> tuple[float, ...]:
    rates = tuple(float(part) for part in (text.split(separator) if separator else [text]))
    if not all(math.isfinite(rate) and rate >= 0 for rate in rates) or not any(rates):
        raise ValueError(f"{text!r}: rates are numbers from 0, not all of them 0")
    return rates


def _fits(name: str, rates: tuple[float, ...]) -> bool:
    counts = {"constant": 0, "ramp": 2, "spike": 1}
    return name == "steps" or len(rates) == counts[name]
