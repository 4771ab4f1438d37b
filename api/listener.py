"""The listening socket, made apart from the server so that a supervisor can hold it."""

import errno
import os
import socket

from api.errors import AddressError

BACKLOG = 4096
"""Connections the kernel may hold before the server accepts them (capped by net.core.somaxconn)."""
ACCEPTED_IN_A_TURN = 8
"""Connections accepted in one turn of the event loop."""


def bind(host: str, port: int) -> socket.socket:
    """Listen on a TCP address.

    A supervisor passes the socket to every gateway process: they share its queue, and while one
    restarts, new connections wait in it instead of being refused.

    Raises:
        AddressError: the port is taken, or the host is no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressError(f"can't listen on {host}:{port}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressError(f"port {port} on {host} is in use by another program") from error
        cause = os.strerror(error.errno or 0)
        raise AddressError(f"can't listen on {host}:{port}: {cause}") from error
    listener.setblocking(False)
    return listener


def doors(listener: socket.socket) -> list[socket.socket]:
    """Give a listening socket, and as many others for it as connections are accepted in a turn.

    uvloop 0.23 accepts one from each in a turn, and a busy gateway's turns are long: who comes
    anew, a health check say, would wait for seconds while those who are in are answered at once.
    (Each costs some microseconds for every connection.)
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTED_IN_A_TURN - 1))]
