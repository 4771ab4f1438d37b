"""The detector's errors.

FraudstreamError
├── StuckError          no progress within a deadline: the process ends and is started again (wire)
└── DetectorError
    ├── RulesError      a rules file can't be used; names file, rule and field
    ├── FencedError     another detector has taken the partition over: this worker ends
    ├── AbortedError    a transaction was rolled back: its records are read again
    └── BacktestError   a backtest can't be made: its input is not there or not right
"""

from wire.errors import FraudstreamError


class DetectorError(FraudstreamError):
    """Base of the detector's errors."""


class RulesError(DetectorError):
    """A rules file can't be used; the text names the file, the rule and the field."""


class FencedError(DetectorError):
    """A later producer with this worker's transactional id has started; never retried."""


class AbortedError(DetectorError):
    """A transaction was rolled back; nobody sees any of it, and its records are read again."""


class BacktestError(DetectorError):
    """A backtest can't be made; the text says why."""
