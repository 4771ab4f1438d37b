"""The open-loop schedule: absolute times, by shape, seeded, never drifting."""

import math
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import schedule
from loadgen.schedule import Dues, Segment

rates = st.floats(0.1, 200)
spans = st.floats(0.01, 2)


@st.composite
def shapes(draw: st.DrawFn) -> schedule.Shape:
    """Any piecewise linear shape that is not all at rest."""
    ends = st.one_of(st.just(0.0), rates)
    segment = st.builds(Segment, spans, ends, ends)
    return tuple(draw(st.lists(segment, min_size=1, max_size=4)))


@given(shapes(), st.one_of(st.none(), st.integers(0, 99)))
def test_times_rise_and_stay_within_the_shape(shape: schedule.Shape, seed: int | None) -> None:
    """No send is due before the one before it, before the start or after the end."""
    found = list(schedule.times(shape, seed=seed))
    end = sum(segment.seconds for segment in shape)
    assert found == sorted(found)
    assert all(0 <= time <= end + 1e-9 for time in found)


@given(shapes())
def test_even_spacing_sends_as_many_as_the_area_under_the_rate(shape: schedule.Shape) -> None:
    """The number of sends is the integral of the rate, rounded up, as the first is at 0."""
    area = sum(segment.sends for segment in shape)
    assert len(list(schedule.times(shape))) == math.ceil(area - 1e-6)


@given(st.integers(1, 5_000), st.integers(0, 10_000_000))
def test_a_constant_rate_does_not_drift(rate: int, place: int) -> None:
    """The k-th send is due at k/rate, whatever came before it: nothing adds up."""
    segment = Segment(math.inf, rate, rate)
    assert segment.at(place) == pytest.approx(place / rate, rel=1e-12)


def test_a_minute_at_a_thousand_a_second_is_sixty_thousand_sends() -> None:
    """The headline run sends exactly what it says."""
    found = list(schedule.times(schedule.shape("constant", 1000, 60)))
    assert len(found) == 60_000
    assert found[-1] == pytest.approx(59.999)


@given(shapes(), st.integers(0, 1_000_000))
def test_poisson_arrivals_are_reproducible_by_seed(shape: schedule.Shape, seed: int) -> None:
    """The same seed gives the same times."""
    first = islice(schedule.times(shape, seed=seed), 200)
    again = islice(schedule.times(shape, seed=seed), 200)
    assert list(first) == list(again)


def test_poisson_gaps_are_exponential() -> None:
    """Mean and standard deviation of the gaps are both 1/rate, within what chance allows."""
    found = list(schedule.times(schedule.shape("poisson", 1000, 100), seed=7))
    gaps = [later - earlier for earlier, later in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.001, rel=0.02)
    assert deviation == pytest.approx(0.001, rel=0.02)


def test_a_ramp_sends_more_and_more() -> None:
    """From 0 to 100 a second over 10 s: a quarter of the sends in the first half."""
    found = list(schedule.times(schedule.shape("ramp", 100, 10)))
    assert len(found) == 500
    assert sum(time < 5 for time in found) == 125


def test_steps_hold_each_rate_for_the_same_time() -> None:
    """Three rates over three seconds: each second has its own number of sends."""
    found = list(schedule.times(schedule.shape("steps:10,50,20", 1, 3)))
    assert [sum(second <= time < second + 1 for time in found) for second in range(3)] == [
        10,
        50,
        20,
    ]


def test_a_spike_takes_the_middle_tenth() -> None:
    """At 100/s with a spike of 1000/s over 10 s: 1000 sends within the middle second."""
    found = list(schedule.times(schedule.shape("spike:1000", 100, 10)))
    assert len(found) == 1900
    assert sum(4.5 <= time < 5.5 for time in found) == 1000


@pytest.mark.parametrize(
    "arrivals",
    [
        "steady",
        "ramp:1",
        "ramp:a-b",
        "steps:0,0",
        "spike:-5",
        "constant:7",
        "ramp+even",
        "poisson:3",
    ],
)
def test_a_shape_that_is_not_understood_is_refused(arrivals: str) -> None:
    """An unknown name, wrong or impossible rates, an unknown spacing."""
    with pytest.raises(ValueError, match=r"\w"):
        schedule.check(arrivals)


@pytest.mark.parametrize("arrivals", ["ramp", "steps", "spike"])
def test_only_a_constant_rate_can_go_on_for_ever(arrivals: str) -> None:
    """A shape with an end needs a duration."""
    with pytest.raises(ValueError, match="needs a duration"):
        schedule.shape(arrivals, 100, math.inf)


@given(shapes(), st.lists(st.floats(0, 9), max_size=5).map(sorted))
def test_dues_counts_each_send_once(shape: schedule.Shape, looks: list[float]) -> None:
    """However often one looks, the counts add up to what was due by the last look."""
    dues = Dues(schedule.times(shape))
    counted = sum(dues.until(seconds) for seconds in looks)
    last = looks[-1] if looks else -1.0
    assert counted == sum(time <= last for time in schedule.times(shape))
