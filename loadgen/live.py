"""The live view: on a terminal a panel that renews itself, elsewhere a line every few seconds."""

import math
import sys
from typing import Final, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadgen import report
from loadgen.measure import Tally
from loadgen.settings import LoadgenSettings
from wire import outputs

BAR_WIDTH: Final = 60
LINE_EVERY_S: Final = 5.0
SLACK_S: Final = 0.5
"""A stretch that ends so much before its time ends with it: stretches are about a second long."""


class View(Protocol):
    """Shows how a run goes on, and leaves the terminal as it was."""

    def __enter__(self) -> "View":
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Take away what the summary replaces."""

    def show(
        self, total: Tally, stretch: Tally, *, elapsed: float, length: float, in_flight: int
    ) -> None:
        """Show what was counted so far, and in the last stretch of so many seconds."""


def view(settings: LoadgenSettings, stream: TextIO = sys.stderr) -> View:
    """Choose by whether the stream is a terminal."""
    if stream.isatty():
        return Panel(settings, Console(file=stream))
    return Lines(stream)


class Lines:
    """One plain line every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._stretch = Tally()
        self._length = 0.0
        self._every = 0.0

    def __enter__(self) -> "Lines":
        """Begin to show."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be taken away."""

    def show(
        self, total: Tally, stretch: Tally, *, elapsed: float, length: float, in_flight: int
    ) -> None:
        """Write a line if it is time for one: the first at once, to show that it runs."""
        self._stretch.add(stretch)
        self._length += length
        if self._length < self._every:
            return
        self._every = LINE_EVERY_S - SLACK_S
        line = report.progress(
            total, self._stretch.taken(), elapsed=elapsed, length=self._length, in_flight=in_flight
        )
        self._length = 0.0
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError:  # nobody reads on, or a full disk: the run is worth more
            outputs.drop(self._stream)


class Panel:
    """A panel with a bar to the end."""

    def __init__(self, settings: LoadgenSettings, console: Console) -> None:
        self._settings = settings
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Panel":
        """Begin to show."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the panel away; the summary comes in its place."""
        self._live.stop()

    def show(
        self, total: Tally, stretch: Tally, *, elapsed: float, length: float, in_flight: int
    ) -> None:
        """Draw it anew."""
        p50, p99 = total.latency.percentiles((50, 99))
        now_p50, now_p99 = stretch.latency.percentiles((50, 99))
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", justify="right")
        table.add_column()
        per_second = f"{stretch.sent / length:,.0f}/s"
        table.add_row("rate", f"{per_second} of {stretch.due / length:,.0f}/s due")
        waiting = max(0, total.due - total.sent - total.dropped)
        table.add_row("sent", f"{total.sent:,}   in flight {in_flight:,}   waiting {waiting:,}")
        table.add_row("p50", f"{now_p50:.1f} ms   all {p50:.1f} ms")
        table.add_row("p99", f"{now_p99:.1f} ms   all {p99:.1f} ms")
        table.add_row("errors", _errors(total))
        table.add_row("late", f"{total.late:,}   dropped {total.dropped:,}")
        table.add_row(*_fraud(total, verified=self._settings.loadgen_verify))
        self._live.update(Group(table, *self._bar(elapsed)), refresh=True)

    def _bar(self, elapsed: float) -> list[ProgressBar | Text]:
        seconds = self._settings.seconds
        if math.isinf(seconds):
            return [Text(f"{elapsed:.0f} s, until stopped", style="dim")]
        done = min(elapsed, seconds)
        bar = ProgressBar(total=seconds, completed=done, width=BAR_WIDTH)
        return [bar, Text(f"{done:.0f} of {seconds:g} s", style="dim")]


def _errors(total: Tally) -> Text:
    if not total.failed:
        return Text("0")
    codes = ", ".join(f"{code}: {count:,}" for code, count in sorted(total.errors.items()))
    return Text(codes, style="red")


def _fraud(total: Tally, *, verified: bool) -> tuple[str, str]:
    if not verified:
        share = 100 * total.above_limit / total.sent if total.sent else 0.0
        return "fraud", f"{share:.1f} % of the amounts are above 900"
    share = 100 * total.fraud / total.verdicts if total.verdicts else 0.0
    owed = total.accepted - total.verdicts - total.lost
    faults = f"lost {total.lost}, duplicate {total.duplicate}, misclassified {total.misclassified}"
    return "verdicts", f"{total.verdicts:,}, {share:.1f} % fraud   {owed:,} to come   {faults}"
