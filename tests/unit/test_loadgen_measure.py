"""Counting and timing: nothing gets lost between stretches, processes and points."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.measure import MAX_POINTS, Course, Latency, Tally


def tally(*seconds: float, due: int = 0) -> Tally:
    """A tally of accepted sends with these latencies."""
    found = Tally(due=due, accepted=len(seconds))
    for each in seconds:
        found.latency.record(each)
    return found


@given(st.lists(st.floats(0, 3000), min_size=1, max_size=50))
def test_percentiles_are_right_to_three_digits(seconds: list[float]) -> None:
    """The 100th is the longest; the histogram's buckets cost at most a thousandth."""
    latency = tally(*seconds).latency
    (found,) = latency.percentiles((100.0,))
    assert found == pytest.approx(max(seconds) * 1000, rel=1e-3, abs=1e-3)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0.01, 99.99))
def test_percentiles_are_the_histogram_s_own(seconds: list[float], percent: float) -> None:
    """As HdrHistogram gives them, up to the longest that was seen."""
    latency = tally(*seconds).latency
    own = latency.histogram.get_value_at_percentile(percent) / 1000
    assert latency.percentiles((percent,)) == [min(own, latency.longest)]


def test_the_mean_is_the_histogram_s_own() -> None:
    """As HdrHistogram gives it, from each bucket's middle, through all widths of buckets."""
    assert Latency().mean == 0.0
    latency = tally(*(1.31**power / 1e6 for power in range(90))).latency
    assert latency.mean == pytest.approx(latency.histogram.get_mean_value() / 1000, rel=1e-12)


def test_a_latency_beyond_an_hour_counts_as_an_hour() -> None:
    """It is not left out."""
    latency = tally(7200.0).latency
    assert (latency.count, latency.longest) == (1, 3_600_000.0)


def test_taking_moves_everything() -> None:
    """What is taken is no longer there; added up again it is the same."""
    source = tally(0.1, 0.2)
    source.errors["503"] += 3
    total = Tally()
    total.add(source.taken())
    total.add(source.taken())
    assert (total.accepted, total.failed, total.latency.count) == (2, 3, 2)
    assert (source.accepted, source.failed, source.latency.count) == (0, 0, 0)


def test_a_tally_travels_between_processes() -> None:
    """Pickled and back it counts and times the same."""
    source = tally(0.001, 1.5)
    source.labels["mule"] += 1
    found = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
    assert found.labels == source.labels
    assert found.latency.percentiles() == source.latency.percentiles()
    assert pickle.loads(pickle.dumps(Latency())).count == 0  # noqa: S301


@given(st.integers(1, 5 * MAX_POINTS))
def test_a_course_keeps_a_bounded_number_of_points(ticks: int) -> None:
    """However long the run, and with every transaction in one of them, but for the last few."""
    course = Course()
    stretch = Tally(due=10)
    for second in range(1, ticks + 1):
        course.add(stretch, float(second))
    counted = sum(point.due for point in course.points)
    assert len(course.points) < MAX_POINTS
    assert ticks * 10 - 160 < counted <= ticks * 10


def test_joined_points_keep_the_worst() -> None:
    """A spike does not vanish when a long run's points are joined."""
    course = Course()
    for second in range(1, MAX_POINTS + 1):
        course.add(tally(9.0 if second == 17 else 0.001, due=1), float(second))
    assert max(point.longest for point in course.points) == 9000.0
    assert max(point.p99 for point in course.points) == pytest.approx(9000, rel=1e-3)
