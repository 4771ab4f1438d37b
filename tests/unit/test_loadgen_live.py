"""The live view: a panel on a terminal, plain lines elsewhere."""

import io

from rich.console import Console

from loadgen import live
from loadgen.measure import Tally
from loadgen.settings import LoadgenSettings


def shown(view: live.View, seconds: int) -> None:
    """Show a run of a hundred a second, with an error in each second."""
    total = Tally()
    with view:
        for second in range(1, seconds + 1):
            stretch = Tally(due=100, sent=90, accepted=89)
            stretch.errors["503"] += 1
            total.add(stretch)
            view.show(total, stretch, elapsed=float(second), length=1.0, in_flight=4)


def test_without_a_terminal_there_is_a_line_every_five_seconds() -> None:
    """The first at once; its rates are of the time since the last."""
    stream = io.StringIO()
    shown(live.view(LoadgenSettings(), stream), 11)
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["1 s", "6 s", "11 s"]
    assert "540 sent, 90/s of 100/s due, 4 in flight, 60 waiting" in lines[1]
    assert "errors 503: 6" in lines[1]


def test_on_a_terminal_there_is_a_panel_with_a_bar_to_the_end() -> None:
    """Rates, latencies, errors by code, and how far it is."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    shown(live.Panel(LoadgenSettings(loadgen_duration=30), console), 3)
    said = screen.getvalue()
    for words in ("90/s of 100/s due", "503: 3", "waiting 30", "3 of 30 s"):
        assert words in said


def test_a_run_without_an_end_has_no_bar() -> None:
    """It says for how long it has run."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    shown(live.Panel(LoadgenSettings(loadgen_duration=0, loadgen_verify=True), console), 2)
    assert "2 s, until stopped" in screen.getvalue()
    assert "to come" in screen.getvalue()
