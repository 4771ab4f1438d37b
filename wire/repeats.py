"""A line that a library logs again and again: told at once, and then now and then with its count.

While a broker is down, aiokafka logs over a hundred lines a second, three of them different.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

TOLD_EVERY_S: Final = 10.0
MOST_LINES: Final = 256
"""Different lines remembered; the one that was told longest ago is forgotten first."""


@dataclass(slots=True)
class _Told:
    at: float
    left_out: int = 0


class Repeats:
    """Leaves out lines that were told a moment ago; a filter for a handler, by records' times."""

    def __init__(self, *libraries: str) -> None:
        """Make it for the loggers of these names and those below them."""
        self._libraries = frozenset(libraries)
        self._told: OrderedDict[tuple[str, int, str], _Told] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is to be written; one that was left out before gets a count."""
        if record.name.partition(".")[0] not in self._libraries:
            return True
        message = record.getMessage()
        line = (record.name, record.levelno, message)
        told = self._told.get(line)
        if told is not None and record.created - told.at < TOLD_EVERY_S:
            told.left_out += 1
            return False
        if told is not None and told.left_out:
            record.msg, record.args = f"{message} ({told.left_out} more like this)", ()
        self._told[line] = _Told(record.created)
        self._told.move_to_end(line)
        if len(self._told) > MOST_LINES:
            self._told.popitem(last=False)
        return True
