"""What ran, in numbers: the object that `--json` prints and all other reports are made from."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from loadgen.measure import PERCENTILES, Latency, Tally
from loadgen.settings import LoadgenSettings
from loadgen.thresholds import Threshold


class Verification(Struct, frozen=True):
    """What became of the accepted transactions."""

    verdicts: int
    fraud: int
    lost: int
    duplicate: int
    misclassified: int
    unaccepted: int
    """Verdicts on what was never acknowledged; no fault."""
    forgotten: int
    gaps: int
    reconnects: int
    latency_ms: dict[str, float | None]
    caught: dict[str, tuple[int, int]]
    """By scenario: verdicts that say fraud, and transactions sent."""

    @property
    def ok(self) -> bool:
        """Tell whether each accepted transaction had its one, right verdict."""
        faults = self.lost, self.duplicate, self.misclassified, self.forgotten, self.gaps
        return not any(faults)


class Checked(Struct, frozen=True):
    """A threshold and what was measured."""

    threshold: str
    value: float | None
    held: bool


class Summary(Struct, frozen=True):
    """One run. Transactions unless it says requests; latencies from the intended send time."""

    run_id: str
    target: str
    seconds: float
    """For how long it sent: by the schedule, or longer where the last sends were late."""
    target_rate: float
    """Transactions due a second, on the average of the run."""
    rate: float
    """Transactions sent a second."""
    requests: int
    due: int
    sent: int
    accepted: int
    failed: int
    late: int
    dropped: int
    cut_off: int
    unreadable: int
    above_limit: int
    errors: dict[str, int]
    retried: dict[str, int]
    labels: dict[str, int]
    latency_ms: dict[str, float | None]
    verification: Verification | None
    thresholds: list[Checked]
    ok: bool
    """All thresholds held, and the verification, if any, had something to verify and no fault."""


def make(settings: LoadgenSettings, total: Tally, seconds: float) -> Summary:
    """Sum a run up, and check what was asked of it."""
    verification = _verification(total) if settings.loadgen_verify else None
    has_any = total.accepted > 0 or not (total.due or total.unreadable)
    is_verified = verification is None or (verification.ok and has_any)
    values = _values(total, seconds)
    checked = [_checked(threshold, values) for threshold in settings.loadgen_threshold]
    return Summary(
        run_id=settings.loadgen_run_id,
        target="kafka" if settings.loadgen_target == "kafka" else settings.loadgen_url,
        seconds=round(seconds, 3),
        target_rate=_per(total.due, min(seconds, settings.seconds)),
        rate=_per(total.sent, seconds),
        requests=total.requests,
        due=total.due,
        sent=total.sent,
        accepted=total.accepted,
        failed=total.failed,
        late=total.late,
        dropped=total.dropped,
        cut_off=total.cut_off,
        unreadable=total.unreadable,
        above_limit=total.above_limit,
        errors=dict(total.errors),
        retried=dict(total.retried),
        labels=dict(total.labels),
        latency_ms=milliseconds(total.latency),
        verification=verification,
        thresholds=checked,
        ok=all(each.held for each in checked) and is_verified,
    )


def milliseconds(latency: Latency) -> dict[str, float | None]:
    """Give mean, percentiles and the longest in ms; None each while nothing was recorded."""
    names = ["mean", *(f"p{percent:g}" for percent in PERCENTILES), "max"]
    if not latency.count:
        return dict.fromkeys(names)
    values = [latency.mean, *latency.percentiles(), latency.longest]
    return {name: round(value, 3) for name, value in zip(names, values, strict=True)}


def _verification(total: Tally) -> Verification:
    return Verification(
        verdicts=total.verdicts,
        fraud=total.fraud,
        lost=total.lost,
        duplicate=total.duplicate,
        misclassified=total.misclassified,
        unaccepted=total.unaccepted,
        forgotten=total.forgotten,
        gaps=total.gaps,
        reconnects=total.reconnects,
        latency_ms=milliseconds(total.verdict_latency),
        caught={label: (total.caught[label], sent) for label, sent in total.labels.items()},
    )


_SHARES_OF: Final = {"errors": "sent", "late": "due", "dropped": "due", "fraud": "verdicts"}


def _values(total: Tally, seconds: float) -> Mapping[tuple[str, str], float | None]:
    """Give every metric by its name and unit."""
    verdict = milliseconds(total.verdict_latency)
    counts = {
        "errors": total.failed + total.cut_off,  # that no answer came in time is no success
        "late": total.late,
        "dropped": total.dropped,
        "fraud": total.fraud,
        "lost": total.lost,
        "duplicate": total.duplicate,
        "misclassified": total.misclassified,
    }
    return {
        **{(name, "ms"): value for name, value in milliseconds(total.latency).items()},
        **{(f"verdict_{name}", "ms"): value for name, value in verdict.items()},
        **{(name, ""): float(value) for name, value in counts.items()},
        **{
            (name, "%"): 100 * _per(counts[name], getattr(total, whole))
            for name, whole in _SHARES_OF.items()
        },
        ("rate", "/s"): _per(total.sent, seconds),
    }


def _checked(threshold: Threshold, values: Mapping[tuple[str, str], float | None]) -> Checked:
    value = values[threshold.metric, threshold.unit]
    return Checked(threshold.text, value, threshold.holds(value))


def _per(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0
