"""The load generator's errors.

FraudstreamError
├── TargetDownError  nothing answered at the target within the time given
├── StreamError      the verdicts can't be followed: refused, or no event stream
├── ReplayError      a file to replay that can't be read as transactions; names line and cause
├── ReportError      a report can't be written
└── ProcessError     a process of the run failed, or ended before its time
"""

from wire.errors import FraudstreamError


class TargetDownError(FraudstreamError):
    """Nothing answered at the target within the time given."""


class StreamError(FraudstreamError):
    """The verdicts can't be followed: refused, or no event stream."""


class ReplayError(FraudstreamError):
    """A file to replay that can't be read as transactions; names the line and the cause."""


class ReportError(FraudstreamError):
    """A report can't be written."""


class ProcessError(FraudstreamError):
    """A process of the run failed, or ended before its time."""
