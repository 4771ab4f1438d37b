"""Thresholds: what a run must hold, as `p99<50ms`, `errors<0.1%` or `lost==0`."""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

METRICS: Final = {
    "p50": "ms", "p75": "ms", "p90": "ms", "p95": "ms", "p99": "ms", "p99.9": "ms", "p99.99": "ms",
    "max": "ms", "mean": "ms",
    "verdict_p50": "ms", "verdict_p99": "ms", "verdict_p99.9": "ms", "verdict_max": "ms",
    "errors": "%", "late": "%", "dropped": "%", "fraud": "%",
    "lost": "", "duplicate": "", "misclassified": "",
    "rate": "/s",
}  # fmt: skip
"""What can be bounded, and its unit; a metric in % may also be bounded as a plain count."""
VERIFIED: Final = frozenset(name for name in METRICS if name.startswith("verdict_")) | {
    "lost",
    "duplicate",
    "misclassified",
    "fraud",
}
"""What is measured by a run that verifies."""

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_SCALES: Final = {"us": ("ms", 0.001), "ms": ("ms", 1.0), "s": ("ms", 1000.0)}
_EXPRESSION = re.compile(
    r"\s*(?P<metric>[a-z_]+[\d.]*)\s*(?P<sign><=|>=|==|!=|<|>)\s*"
    r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>us|ms|s|%|/s|)\s*",
    re.ASCII,
)


class Threshold(NamedTuple):
    """One bound on one metric."""

    text: str
    """The expression as given."""
    metric: str
    unit: str
    """`%` for a share; empty for a plain count; else the metric's own."""
    sign: str
    bound: float
    """In the metric's unit: ms, %, 1/s or a count."""

    def holds(self, value: float | None) -> bool:
        """Tell whether a value keeps the bound; one that was not measured does not."""
        return value is not None and _OPERATORS[self.sign](value, self.bound)


def parse(text: str) -> Threshold:
    """Read an expression: METRIC SIGN NUMBER [UNIT].

    Raises:
        ValueError: says what is not understood.
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no threshold; expected e.g. 'p99<50ms' or 'lost==0'")
    metric, unit = match["metric"], match["unit"]
    if metric not in METRICS:
        raise ValueError(f"{metric!r} is no metric; expected one of {', '.join(METRICS)}")
    measured_in = METRICS[metric]
    unit, scale = _SCALES.get(unit, (unit, 1.0))
    if unit and unit != measured_in:
        raise ValueError(f"{text!r}: {metric} is measured in {measured_in or 'counts'}")
    if measured_in != "%":
        unit = measured_in
    return Threshold(text.strip(), metric, unit, match["sign"], float(match["number"]) * scale)
