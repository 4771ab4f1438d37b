"""Lines that repeat: told at once, then now and then with their count, in bounded memory."""

import logging

from wire.repeats import MOST_LINES, TOLD_EVERY_S, Repeats


def record(message: str, at: float, name: str = "aiokafka.conn") -> logging.LogRecord:
    """Make a line that was logged at a time."""
    made = logging.LogRecord(name, logging.ERROR, "", 0, "%s", (message,), None)
    made.created = at
    return made


def told(repeats: Repeats, *lines: tuple[str, float]) -> list[str]:
    """Give what is written of some lines."""
    records = [record(message, at) for message, at in lines]
    return [each.getMessage() for each in records if repeats.filter(each)]


def test_a_line_is_told_at_once_and_then_now_and_then_with_its_count() -> None:
    """Of a thousand lines in ten seconds the first is written, and the next one after them."""
    flood = [("refused", TOLD_EVERY_S * n / 1000) for n in range(1000)]
    assert told(Repeats("aiokafka"), *flood, ("refused", TOLD_EVERY_S)) == [
        "refused",
        "refused (999 more like this)",
    ]


def test_different_lines_do_not_hide_each_other() -> None:
    """Two nodes that are gone are two lines."""
    lines = [("node 1 is gone", 0.0), ("node 2 is gone", 0.1), ("node 1 is gone", 0.2)]
    assert told(Repeats("aiokafka"), *lines) == ["node 1 is gone", "node 2 is gone"]


def test_our_own_lines_are_never_left_out() -> None:
    """Only what libraries say is."""
    repeats = Repeats("aiokafka")
    assert all(repeats.filter(record("x", 0.0, name="api.server")) for _ in range(3))


def test_what_is_remembered_is_bounded() -> None:
    """The line that was told longest ago is forgotten, and told anew."""
    repeats = Repeats("aiokafka")
    lines = [(f"line {n}", 0.0) for n in range(MOST_LINES + 1)]
    assert len(told(repeats, *lines)) == MOST_LINES + 1
    assert told(repeats, ("line 1", 0.0), ("line 0", 0.0)) == ["line 0"]
