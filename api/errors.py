"""The gateway's errors that are no answer to a request (those are in problems.py).

FraudstreamError
└── AddressError  the address to listen on can't be had
"""

from wire.errors import FraudstreamError


class AddressError(FraudstreamError):
    """The address to listen on is taken, or is not this machine's."""
