"""Which hosts requests may be for: the defence against DNS rebinding.

A page from elsewhere can give its own name this machine's address, and then is of the same origin
as what is served here. But its requests carry that name. An address instead of a name can't be
pointed elsewhere, and neither can localhost (RFC 6761, section 6.3), so these are always served.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from api.problems import UNKNOWN_HOST, Problem

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d*)?", re.ASCII)


class Hosts:
    """The names that this gateway answers to."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """Take names, and `*.NAME` for all names below one."""
        self._names = {name for name in allowed if "*" not in name} | {"localhost"}
        below = [name[1:] for name in allowed if name.startswith("*.")]
        self._suffixes = (".localhost", *below)
        self._last = (b"host", b"localhost")
        self.refused = 0
        """Requests that were for others."""

    def allow(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Tell whether a request with these headers is for us; one for no host is."""
        if self._last in headers:  # as nearly all are
            return True
        given = next((header for header in headers if header[0] == b"host"), None)
        if given is None:  # HTTP/1.0, which no browser speaks
            return True
        if not self.answers_to(given[1].decode("latin-1").lower()):
            return False
        self._last = given
        return True

    def answers_to(self, host: str) -> bool:
        """Tell whether this is one of our names, with or without a port."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found[1] or found[2]).removesuffix(".")
        return name in self._names or name.endswith(self._suffixes) or _is_address(name)

    def refuse(self) -> Problem:
        """Count a request that is for another host; give its problem."""
        self.refused += 1
        return Problem(
            UNKNOWN_HOST,
            "this gateway does not answer to the name in Host; API_ALLOWED_HOSTS has those it does",
            limit="api_allowed_hosts",
        )


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def served(allowed: tuple[str, ...] | None, *, on_loopback: bool) -> Hosts | None:
    """Give the hosts to check for; None if any will do.

    A gateway that is open to other machines has a name that its operator's proxy knows, and
    answers to any unless it is told which.
    """
    if allowed is None:
        return Hosts(()) if on_loopback else None
    return None if "*" in allowed else Hosts(allowed)
