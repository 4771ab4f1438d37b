"""What a run says in text: a progress line while it runs, a summary when it is over."""

from collections.abc import Mapping

from loadgen.measure import Tally
from loadgen.summary import Summary, Verification


def progress(total: Tally, stretch: Tally, *, elapsed: float, length: float, in_flight: int) -> str:
    """Say in one line where the run stands; rates and latencies are of the last stretch."""
    p50, p99 = stretch.latency.percentiles((50, 99))
    waiting = max(0, total.due - total.sent - total.dropped)
    return (
        f"{elapsed:.0f} s: {total.sent:,} sent, {stretch.sent / length:,.0f}/s "
        f"of {stretch.due / length:,.0f}/s due, {in_flight:,} in flight, {waiting:,} waiting, "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
        f"errors {_by_code(total.errors) or 0}, late {total.late}, dropped {total.dropped}"
    )


def text(summary: Summary) -> str:
    """Say what ran, one matter a line."""
    return "\n".join(f"{name:<15} {said}".rstrip() for name, said in _lines(summary) if said)


def _lines(run: Summary) -> list[tuple[str, str]]:
    share = 100 * run.above_limit / run.sent if run.sent else 0.0
    lines = [
        ("target", f"{run.target}  (run {run.run_id})"),
        ("rate", f"{run.rate:,.1f}/s of {run.target_rate:,.1f}/s due, for {run.seconds:.1f} s"),
        ("sent", f"{run.sent:,} in {run.requests:,} requests; {share:.1f} % above 900"),
        ("accepted", f"{run.accepted:,}"),
        ("errors", f"{run.failed:,}  {_by_code(run.errors)}"),
        ("retried", _by_code(run.retried)),
        ("late", f"{run.late:,}"),
        ("dropped", f"{run.dropped:,}"),
        ("cut off", f"{run.cut_off:,} without an answer at the end" if run.cut_off else ""),
        ("unreadable", f"{run.unreadable:,} lines" if run.unreadable else ""),
        ("POST", _latencies(run.latency_ms)),
    ]
    if run.verification and (run.due or run.unreadable) and not run.accepted:
        lines.append(("NOT VERIFIED", "nothing was accepted"))
    elif run.verification:
        lines += _verification_lines(run.verification)
    lines += [
        ("held" if each.held else "NOT HELD", f"{each.threshold}  ({_number(each.value)})")
        for each in run.thresholds
    ]
    return lines


def _verification_lines(found: Verification) -> list[tuple[str, str]]:
    caught = (f"{label} {fraud}/{sent}" for label, (fraud, sent) in found.caught.items())
    return [
        ("POST to verdict", _latencies(found.latency_ms)),
        ("verdicts", f"{found.verdicts:,}, {found.fraud:,} of them fraud"),
        ("lost", f"{found.lost:,}"),
        ("duplicate", f"{found.duplicate:,}"),
        ("misclassified", f"{found.misclassified:,}"),
        ("unaccepted", f"{found.unaccepted:,} with a verdict" if found.unaccepted else ""),
        ("forgotten", f"{found.forgotten:,} past the window" if found.forgotten else ""),
        ("gaps", f"{found.gaps:,} in the stream" if found.gaps else ""),
        ("reconnects", f"{found.reconnects:,}" if found.reconnects else ""),
        ("called fraud", ", ".join(caught)),
    ]


def _by_code(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code}: {count:,}" for code, count in sorted(counts.items()))


def _latencies(latency_ms: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in latency_ms.items()) + "  (ms)"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.1f}".removesuffix(".0")
