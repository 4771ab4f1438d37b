"""What can go wrong when the parts are put together.

FraudstreamError
├── JarsError        Kafka's jars can't be had, or are not the ones that were locked
├── BrokerError      the embedded Kafka can't be set up as asked
├── DataDirError     the data directory is in use, or can't be used
├── StartError       the stack did not come up
└── PartFailedError  a part can't be started, or kept dying; the stack was ended
"""

from wire.errors import FraudstreamError


class JarsError(FraudstreamError):
    """Kafka's jars can't be had, or are not the ones that were locked; names the jar."""


class BrokerError(FraudstreamError):
    """The embedded Kafka can't be set up as asked; names the port, directory or setting."""


class DataDirError(FraudstreamError):
    """The data directory is in use by another `up`, or can't be written."""


class StartError(FraudstreamError):
    """The stack did not come up within its time; names the step."""


class PartFailedError(FraudstreamError):
    """A part can't be started, or died again and again; names it, and the cause or its log file."""
