"""The detector's errors.

FraudstreamError
└── DetectorError
    └── RulesError  a rules file can't be used; names file, rule and field
"""

from wire.errors import FraudstreamError


class DetectorError(FraudstreamError):
    """Base of the detector's errors."""


class RulesError(DetectorError):
    """A rules file can't be used; the text names the file, the rule and the field."""
