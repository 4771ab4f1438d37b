"""Token buckets: never more than burst and rate allow, whatever is asked and whenever."""

from hypothesis import given
from hypothesis import strategies as st

from wire.buckets import Buckets

rates = st.floats(0.01, 10_000)
bursts = st.integers(1, 1_000)
pauses = st.floats(0, 10)
STEPS = 200
SLACK = 1e-3
"""Of a token: what the bucket's tolerance and the sums of floating-point numbers come to."""


@given(rates, bursts, st.lists(pauses, min_size=1, max_size=STEPS))
def test_no_window_holds_more_than_burst_and_rate(
    rate: float, burst: int, between: list[float]
) -> None:
    """From any admitted request to any other, at most burst + rate x time were admitted."""
    buckets = Buckets(rate, burst, 1)
    now, admitted = 1_000.0, list[float]()
    for pause in between:
        now += pause / rate
        if not buckets.take("a", now):
            admitted.append(now)
    for first, began in enumerate(admitted):
        for count, ended in enumerate(admitted[first:], 1):
            assert count <= burst + rate * (ended - began + 1e-6) + SLACK


@given(rates, bursts, st.lists(st.integers(1, 10_000), min_size=1, max_size=STEPS))
def test_a_debt_is_paid_before_anything_is_given(rate: float, burst: int, costs: list[int]) -> None:
    """Whoever asks as soon as it may gets burst + rate x time, and what its last batch was over."""
    buckets = Buckets(rate, burst, 1)
    now, spent = 0.0, 0
    for cost in costs:
        while wait := buckets.take("a", now):
            now += wait
        buckets.spend("a", cost - 1, now)
        spent += cost
    assert spent <= (burst + rate * now + costs[-1]) * (1 + 1e-9) + len(costs) * rate * 1e-6 + SLACK


@given(rates, bursts, st.integers(0, 5_000))
def test_the_time_it_says_is_the_time_it_takes(rate: float, burst: int, debt: int) -> None:
    """After that wait there is a token, and not long before it."""
    buckets = Buckets(rate, burst, 1)
    buckets.spend("a", burst + debt, 7.0)
    wait = buckets.take("a", 7.0)
    assert wait > 0
    assert buckets.left("a", 7.0) == 0
    assert buckets.take("a", 7.0 + wait * 0.9) > 0
    assert buckets.take("a", 7.0 + wait) == 0.0


@given(bursts)
def test_a_new_bucket_is_full_and_fills_up_again(burst: int) -> None:
    """Burst at once, then none; and never more than burst, however long nothing comes."""
    buckets = Buckets(1, burst, 1)
    assert [buckets.take("a", 0) for _ in range(burst)] == [0.0] * burst
    assert buckets.take("a", 0) == 1.0
    assert buckets.left("a", 10.0 * burst) == burst


def test_keys_do_not_share() -> None:
    """What one spends is not missed by another."""
    buckets = Buckets(1, 1, 2)
    assert (buckets.take("a", 0), buckets.take("b", 0)) == (0.0, 0.0)
    assert buckets.take("a", 0) == 1.0


def test_memory_is_bounded_and_who_is_in_debt_is_remembered_longest() -> None:
    """The one used longest ago is forgotten; one that goes on asking is not."""
    buckets = Buckets(1, 1, 3)
    for key in "abc":
        buckets.take(key, 0)
    assert buckets.take("a", 0) > 0
    buckets.take("d", 0)
    assert len(buckets) == 3
    assert buckets.take("a", 0) > 0
    assert buckets.take("b", 0) == 0.0
