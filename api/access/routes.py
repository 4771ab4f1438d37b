"""What each address asks of those who come to it.

An address that is not named here does not exist for anyone while authentication is on: a route that
was forgotten is shut, not open. The path is compared as a whole, as the router's patterns would let
a line feed pass at the end of one (`/stream/fraud%0A`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from api.access.scopes import METRICS_READ, STREAM_FRAUD, STREAM_LEGIT, TRANSACTIONS_WRITE


@dataclass(frozen=True, slots=True)
class Need:
    """The sets of scopes of which one must be had; none at all: open to everyone."""

    alternatives: tuple[frozenset[str], ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return not self.alternatives

    def is_met_by(self, scopes: frozenset[str]) -> bool:
        """Tell whether someone with these scopes may come in."""
        for each in self.alternatives:  # noqa: SIM110 - `any` would take four times as long
            if each <= scopes:
                return True
        return False


def _any_of(*alternatives: set[str]) -> Need:
    return Need(tuple(map(frozenset, alternatives)))


OPEN: Final = Need()
ANYBODY: Final = _any_of(set())
"""Whoever has a credential."""
_BOTH_STREAMS: Final = {STREAM_LEGIT, STREAM_FRAUD}
# Who may see either verdict may look one up: which of them it is, is not known before.
_LOOK_UP: Final = _any_of({TRANSACTIONS_WRITE}, _BOTH_STREAMS)

_AT: Final[Mapping[str, Need]] = {
    "/transactions": _any_of({TRANSACTIONS_WRITE}),
    "/stream/fraud": _any_of({STREAM_FRAUD}),
    "/stream/legit": _any_of({STREAM_LEGIT}),
    "/stream/all": _any_of(_BOTH_STREAMS),
    "/metrics": _any_of({METRICS_READ}),
    "/metrics/worker": _any_of({METRICS_READ}),
    "/status.json": ANYBODY,
    "/": ANYBODY,
    "/healthz": OPEN,
    "/readyz": OPEN,
    "/openapi.json": OPEN,
    "/asyncapi.json": OPEN,
    "/docs": OPEN,
    "/problems": OPEN,
    "/sign-in": OPEN,
    "/sign-out": OPEN,
}
_UNDER: Final[Mapping[str, Need]] = {
    "/transactions/": _LOOK_UP,
    "/worker/transactions/": _LOOK_UP,
    "/docs/": OPEN,
    "/problems/": OPEN,
    "/schemas/": OPEN,
    "/static/": OPEN,
}


def name(path: str) -> str:
    """Give a path as far as it is ours: what follows may be anything."""
    if path in _AT:
        return path
    return next((prefix for prefix in _UNDER if path.startswith(prefix)), "elsewhere")


def need(path: str) -> Need | None:
    """Tell what a path asks for; None if there is nothing at it."""
    found = _AT.get(path)
    if found is None:
        for prefix, under in _UNDER.items():
            if path.startswith(prefix):
                return under
    return found
