"""How many streams may be open: in all, for each address and credential, with how many filters."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from api.edge.clients import Client
from api.problems import OVERLOADED, TOO_MANY, Problem
from api.settings import ApiSettings
from api.streams.filters import Filter


class Admission:
    """Counts the open streams of one process, and refuses what is over a limit."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._addresses = Counter[str]()
        self._credentials = Counter[str]()
        self._filters = Counter[Filter]()
        self._open = 0

    def check(self, client: Client, only: Filter | None) -> None:
        """Refuse a client that is over a limit.

        Raises:
            Problem: 429 or 503, with Retry-After.
        """
        settings = self._settings
        if self._addresses[client.address] >= settings.stream_clients_per_address:
            limit = settings.stream_clients_per_address
            raise Problem(TOO_MANY, f"this address has {limit} open streams, the most it may have")
        of = client.credential
        if of is not None and self._credentials[of] >= settings.stream_clients_per_credential:
            limit = settings.stream_clients_per_credential
            raise Problem(TOO_MANY, f"this credential has {limit} open streams, the most it may")
        if self._open >= settings.stream_clients:
            raise Problem(OVERLOADED, f"all {settings.stream_clients} streams are taken")
        if only and only not in self._filters and len(self._filters) >= settings.stream_filters:
            raise Problem(OVERLOADED, f"{settings.stream_filters} different filters are in use")

    @contextmanager
    def admitted(self, client: Client, only: Filter | None) -> Iterator[None]:
        """Let a client in, at once or not at all, and count it while it is there.

        Raises:
            Problem: as `check` does.
        """
        self.check(client, only)
        self._open += 1
        self._addresses[client.address] += 1
        if client.credential is not None:
            self._credentials[client.credential] += 1
        if only:
            self._filters[only] += 1
        try:
            yield
        finally:
            self._open -= 1
            _count_down(self._addresses, client.address)
            if client.credential is not None:
                _count_down(self._credentials, client.credential)
            if only:
                _count_down(self._filters, only)


def _count_down(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
