"""The gateway's errors that are no answer to a request (those are in problems.py).

FraudstreamError
├── AddressError              the address to listen on can't be had
├── ExposedError              others could come in without being asked who they are
├── CertificateError          the certificate to serve with can't be used
├── KeyFileError              the file of API keys can't be used
├── KeySetError               a JWK Set can't be had, or can't be used
├── CredentialError           a credential that does not count; says why
├── PositionError             text that is no stream position
├── ReaderError               what was read for the streams was not taken in
└── DeliveryError             a record is not known to be in Kafka
    ├── OverloadedError       too much is in flight: it was not sent
    ├── UnreachableError      Kafka can't be reached: it was not sent
    ├── ShuttingDownError     the gateway is shutting down: it was not sent
    └── NotAcknowledgedError  it was sent, and Kafka did not say that it has it
"""

from wire.errors import FraudstreamError


class AddressError(FraudstreamError):
    """The address to listen on is taken, or is not this machine's."""


class ExposedError(FraudstreamError):
    """Others than this machine could come in without being asked who they are."""


class CertificateError(FraudstreamError):
    """The certificate to serve with, or its key, can't be used; the text says why."""


class KeyFileError(FraudstreamError):
    """The file of API keys can't be read, written or understood; the text says why."""


class KeySetError(FraudstreamError):
    """A JWK Set can't be had, or has no key that can be used; the text says why."""


class CredentialError(FraudstreamError):
    """A credential that does not count; the text says why, for the one who gave it."""


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


class ReaderError(FraudstreamError):
    """What a feed has read was not taken in: no stream can show that it is missing."""
