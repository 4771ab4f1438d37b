"""What can go wrong when the parts are put together.

FraudstreamError
├── JarsError    Kafka's jars can't be had, or are not the ones that were locked
└── BrokerError  the embedded Kafka can't be set up as asked
"""

from wire.errors import FraudstreamError


class JarsError(FraudstreamError):
    """Kafka's jars can't be had, or are not the ones that were locked; names the jar."""


class BrokerError(FraudstreamError):
    """The embedded Kafka can't be set up as asked; names the port, directory or setting."""
