"""The load generator's errors.

FraudstreamError
├── TargetDownError    nothing answered at the target within the time given
└── ReplayError        a file to replay that can't be read as transactions; names line and cause
"""

from wire.errors import FraudstreamError


class TargetDownError(FraudstreamError):
    """Nothing answered at the target within the time given."""


class ReplayError(FraudstreamError):
    """A file to replay that can't be read as transactions; names the line and the cause."""
