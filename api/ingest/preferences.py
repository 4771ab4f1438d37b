"""The Prefer header (RFC 7240), as far as it is honoured: `wait=SECONDS`."""

import re
from typing import Final

# Nothing gives back what it has taken: else a header of semicolons would be tried in every way.
# Groups are atomic, not possessive, which Python before 3.11.5 gets wrong (its issue 106052).
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE: Final = rf'(?>(?:{_WORD}|"(?>(?:[^"\\]|\\.)*)")?)'
_PREFERENCE: Final = re.compile(
    rf"[\s,]*+(?P<name>{_WORD})(?:\s*+=\s*+(?P<value>{_VALUE}))?"
    rf"(?>(?:\s*+;\s*+(?:{_WORD}(?:\s*+=\s*+{_VALUE})?)?)*)\s*+(?:,|$)"
)


def wait_seconds(prefer: str) -> int | None:
    """Give the seconds that a client prefers to wait; None if it did not (well) say.

    A server has to ignore preferences that it can't read, so nothing here is an error. The first
    `wait` counts.
    """
    position = 0
    while match := _PREFERENCE.match(prefer, position):
        if match["name"].lower() == "wait":
            digits = (match["value"] or "").strip('"')
            return int(digits) if re.fullmatch(r"[0-9]{1,9}", digits) else None
        position = match.end()
    return None
