"""What a run says in text: a progress line while it runs, a summary when it is over."""

from loadgen.measure import Tally


def progress(tally: Tally, elapsed: float, target_rate: float) -> str:
    """Say in one line where the run stands."""
    latency = tally.latency
    return (
        f"{elapsed:6.1f}s  {tally.sent:,} sent, {tally.sent / max(elapsed, 1e-9):,.0f}/s "
        f"of {target_rate:,.0f}/s  in flight {tally.in_flight}  "
        f"p50 {latency.percentile(50):.1f} ms  p99 {latency.percentile(99):.1f} ms  "
        f"errors {tally.failed}  late {tally.late}  dropped {tally.dropped}"
    )


def summary(tally: Tally, elapsed: float) -> str:
    """Say what ran, in a few lines."""
    shown = {
        name: "-" if value is None else f"{value:.1f}"
        for name, value in tally.latency.milliseconds().items()
    }
    rate = tally.sent / max(elapsed, 1e-9)
    return "\n".join(
        (
            f"sent      {tally.sent:,} in {elapsed:.1f} s, {rate:,.1f}/s",
            f"accepted  {tally.accepted:,}",
            f"errors    {tally.failed:,} {dict(tally.errors) or ''}",
            f"late      {tally.late:,}   dropped {tally.dropped:,}",
            "latency   " + "  ".join(f"{name} {value}" for name, value in shown.items()) + "  ms",
        )
    )
