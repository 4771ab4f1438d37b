"""Someone whom a credential stands for."""

from dataclasses import dataclass
from typing import Final

PRINCIPAL: Final = "fraudstream.principal"
"""Where a request's principal is found in its ASGI scope; absent where nobody is asked."""

MAX_CREDENTIAL_BYTES: Final = 8192
"""Longest API key or token that is looked at."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from, and what they may do."""

    id: str
    """Stable, unique and fit for a log: `key:ID` or `jwt:SUBJECT`."""
    name: str
    """For people: the key's name, or what the token calls its subject."""
    scopes: frozenset[str]
    expires_at: float | None = None
    """Unix time in seconds from which on the credential counts no more; None: it does not end."""
