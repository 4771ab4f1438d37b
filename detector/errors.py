"""The detector's errors.

FraudstreamError
└── DetectorError
    ├── RulesError      a rules file can't be used; names file, rule and field
    └── ConditionError  a rule's condition has no answer for a transaction
"""

from wire.errors import FraudstreamError


class DetectorError(FraudstreamError):
    """Base of the detector's errors."""


class RulesError(DetectorError):
    """A rules file can't be used; the text names the file, the rule and the field."""


class ConditionError(DetectorError):
    """A rule's condition has no answer for a transaction; the text says why."""
