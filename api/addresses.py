"""Addresses: which of them only this machine can reach."""

import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Tell whether a host, by name or number, is this machine seen from itself (RFC 6761, 6.3)."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def without_port(host: str) -> str:
    """Give the host in a Host header (RFC 9110, 7.2), whatever stands there."""
    return host.partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def is_public(listener: socket.socket) -> bool:
    """Tell whether others than this machine can reach a listening socket."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return False  # a UNIX socket: the file's rights say who may
    return not is_loopback(str(listener.getsockname()[0]))
