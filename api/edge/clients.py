"""Who a request comes from, as limits count it and the audit log writes it."""

from typing import Any, NamedTuple

from starlette.types import Scope

from api.access.principal import PRINCIPAL
from api.edge.addresses import UNKNOWN, counted


class Client(NamedTuple):
    """A client: where it is, and who it is."""

    address: str
    """As it is counted."""
    credential: str | None
    """Its id; None where nobody is asked for one."""


def client_of(scope: Scope) -> Client:
    """Tell who a request (ASGI scope) comes from."""
    return Client(address_of(scope), credential_of(scope))


def address_of(scope: Scope) -> str:
    """Give what a request's client counts as: an IPv4 address, or the prefix of an IPv6 one.

    Behind a proxy that is named in API_TRUSTED_PROXIES it is that proxy's client.
    """
    client = scope.get("client")
    return counted(client[0]) if client else UNKNOWN


def credential_of(scope: Scope) -> str | None:
    """Give the id of the credential that a request came with; None if it came with none."""
    principal: Any = scope.get(PRINCIPAL)
    return None if principal is None else str(principal.id)
