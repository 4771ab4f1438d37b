"""The gateway's errors that are no answer to a request (those are in problems.py).

FraudstreamError
├── AddressError              the address to listen on can't be had
├── CertificateError          the certificate to serve with can't be used
├── PositionError             text that is no stream position
└── DeliveryError             a record is not known to be in Kafka
    ├── OverloadedError       too much is in flight: it was not sent
    ├── UnreachableError      Kafka can't be reached: it was not sent
    ├── ShuttingDownError     the gateway is shutting down: it was not sent
    └── NotAcknowledgedError  it was sent, and Kafka did not say that it has it
"""

from wire.errors import FraudstreamError


class AddressError(FraudstreamError):
    """The address to listen on is taken, or is not this machine's."""


class CertificateError(FraudstreamError):
    """The certificate to serve with, or its key, can't be used; the text says why."""


class DeliveryError(FraudstreamError):
    """A record is not known to be in Kafka."""


class OverloadedError(DeliveryError):
    """Too much is in flight: the record was not sent."""


class UnreachableError(DeliveryError):
    """Kafka can't be reached: the record was not sent."""


class ShuttingDownError(DeliveryError):
    """The gateway is shutting down: the record was not sent."""


class NotAcknowledgedError(DeliveryError):
    """The record was sent and Kafka did not say that it has it: it may or may not be there."""


class PositionError(FraudstreamError):
    """Text that is no stream position; says in a few words what is wrong with it."""
