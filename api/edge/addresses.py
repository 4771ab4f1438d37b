"""Client addresses: what counts as one client, and which addresses are our own proxies'."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

UNKNOWN: Final = "unknown"
"""Stands for what a proxy told that is no address."""
_PREFIX_BITS: Final = 64
"""Of an IPv6 address: its owner has all that begin so (RFC 6177)."""
_MAPPED: Final = "::ffff:"
_MAPPED_BITS: Final = 96
_CACHED: Final = 4096


@lru_cache(_CACHED)
def counted(address: str) -> str:
    """Give what an address counts as."""
    try:
        found = ip_address(unmapped(address))
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found) >> _PREFIX_BITS << _PREFIX_BITS, _PREFIX_BITS)))
    return str(found)


def unmapped(address: str) -> str:
    """Give an IPv4 client's address as such, where the socket takes IPv6 too."""
    return address.removeprefix(_MAPPED) if "." in address else address


def with_mapped(given: tuple[str, ...]) -> list[str]:
    """Give addresses and networks, IPv4 ones also as a socket that takes IPv6 too has them.

    Those are IPv4-mapped (RFC 4291, 2.5.5.2), as is what an IPv4 client is called there.
    """
    networks = [ip_network(each) for each in given]
    mapped = [
        f"{_MAPPED}{each.network_address}/{_MAPPED_BITS + each.prefixlen}"
        for each in networks
        if each.version == 4  # noqa: PLR2004 - IPv4
    ]
    return [*given, *mapped]


class Networks:
    """A set of addresses, given as addresses and networks (CIDR)."""

    def __init__(self, given: tuple[str, ...]) -> None:
        self._networks: tuple[Any, ...] = tuple(ip_network(each) for each in given)

    def __contains__(self, address: str) -> bool:
        try:
            found = ip_address(unmapped(address))
        except ValueError:
            return False
        return any(found in network for network in self._networks)
