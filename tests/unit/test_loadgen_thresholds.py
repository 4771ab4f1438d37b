"""Thresholds: what is understood, and when a bound is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import thresholds


@pytest.mark.parametrize(
    ("text", "metric", "unit", "sign", "bound"),
    [
        ("p99<50ms", "p99", "ms", "<", 50.0),
        ("p99.99 <= 1.5s", "p99.99", "ms", "<=", 1500.0),
        ("verdict_p99<250", "verdict_p99", "ms", "<", 250.0),
        ("mean<800us", "mean", "ms", "<", 0.8),
        ("errors<0.1%", "errors", "%", "<", 0.1),
        ("errors==0", "errors", "", "==", 0.0),
        ("lost==0", "lost", "", "==", 0.0),
        ("rate>=999.5/s", "rate", "/s", ">=", 999.5),
    ],
)
def test_an_expression_is_read(text: str, metric: str, unit: str, sign: str, bound: float) -> None:
    """Times become milliseconds; a share keeps its %."""
    found = thresholds.parse(text)
    assert (found.metric, found.unit, found.sign) == (metric, unit, sign)
    assert found.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    "text", ["", "p99", "p98<5ms", "p99<fast", "lost<1%", "p99<5%", "errors<5ms", "p99=5", "p99<-1"]
)
def test_what_is_no_threshold_is_refused(text: str) -> None:
    """An unknown metric, a wrong unit, a missing part: each says what was expected."""
    with pytest.raises(ValueError, match=r"threshold|metric|measured"):
        thresholds.parse(text)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_holding_is_plain_comparison(value: float, bound: float) -> None:
    """Every operator does as Python's."""
    signs = {
        "<": value < bound,
        "<=": value <= bound,
        ">": value > bound,
        ">=": value >= bound,
        "==": value == bound,
        "!=": value != bound,
    }
    for sign, expected in signs.items():
        assert thresholds.parse("lost==0")._replace(sign=sign, bound=bound).holds(value) == expected


def test_what_was_not_measured_does_not_hold() -> None:
    """A run without one accepted transaction does not pass p99<50ms."""
    assert not thresholds.parse("p99<50ms").holds(None)
