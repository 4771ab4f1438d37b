"""How many connections there may be, in all and from one address, and how long a header takes.

What is not accepted yet waits in the listening socket's queue, which the kernel bounds.
"""

from collections import Counter
from typing import Final

from api.edge.addresses import Networks, counted
from api.edge.settings import EdgeSettings
from api.problems import (
    HEADER_TIMEOUT,
    HEADER_TOO_LARGE,
    OVERLOADED,
    TOO_MANY,
    Kind,
    Problem,
)

HEADER_TIMEOUT_S: Final = 10.0
HEADER_BYTES: Final = 32_768
_ANY: Final = 1 << 62


LIMITS: Final = (
    "api_connections",
    "api_connections_per_address",
    "api_header_timeout",
    "api_header_bytes",
)
"""The settings that a connection can be over."""


class Connections:
    """Counts one process's connections."""

    def __init__(
        self,
        most: int = _ANY,
        most_per_address: int = _ANY,
        proxies: tuple[str, ...] = (),
        header_seconds: float = HEADER_TIMEOUT_S,
        header_bytes: int = HEADER_BYTES,
        *,
        own: tuple[str, int] | None = None,
    ) -> None:
        """Take the bounds; `proxies` may have any number of connections each.

        So may the gateway's other processes, who come to the address that is this one's own.
        """
        self.own = own
        self.header_seconds = header_seconds
        self.header_bytes = header_bytes
        self.refused = Counter[str]()
        """Connections refused, by the setting that they were over: one of LIMITS."""
        self._most = most
        self._most_per_address = most_per_address
        self._proxies = Networks(proxies)
        self.open = 0
        """Connections there are now, without those refused."""
        self._addresses = Counter[str]()

    def enter(self, address: str | None) -> Problem | None:
        """Count a connection from an address; give the problem instead if it is one too many.

        None: from another process of the gateway.
        """
        if self.open >= self._most:
            return self._refuse(OVERLOADED, "api_connections", f" ({self._most}) is reached")
        if address is not None and address not in self._proxies:
            client = counted(address)
            if self._addresses[client] >= self._most_per_address:
                limit = "api_connections_per_address"
                return self._refuse(TOO_MANY, limit, f" ({self._most_per_address}) is reached")
            self._addresses[client] += 1
        self.open += 1
        return None

    def leave(self, address: str | None) -> None:
        """Count a connection out that was counted in."""
        self.open -= 1
        if address is not None and address not in self._proxies:
            client = counted(address)
            self._addresses[client] -= 1
            if not self._addresses[client]:
                del self._addresses[client]

    def late(self) -> Problem:
        """Count a connection whose header did not arrive in time; give its problem."""
        said = f": the header did not arrive within {self.header_seconds:g} s"
        return self._refuse(HEADER_TIMEOUT, "api_header_timeout", said)

    def too_large(self) -> Problem:
        """Count a connection whose header is too large; give its problem."""
        said = f": at most {self.header_bytes} bytes are taken"
        return self._refuse(HEADER_TOO_LARGE, "api_header_bytes", said)

    def _refuse(self, kind: Kind, limit: str, said: str) -> Problem:
        self.refused[limit] += 1
        return Problem(kind, limit + said, limit=limit)


def bounded(
    settings: EdgeSettings, files: int = _ANY, own: tuple[str, int] | None = None
) -> Connections:
    """Make the bounds that settings say.

    Args:
        settings: say most of them.
        files: how many connections can be open at all.
        own: the address at which the gateway's other processes reach this one.
    """
    return Connections(
        min(settings.api_connections, files),
        settings.api_connections_per_address or _ANY,
        settings.trusted_proxies,
        settings.api_header_timeout,
        settings.api_header_bytes,
        own=own,
    )
