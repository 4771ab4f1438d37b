"""What is sent: payments with the label kept beside them, and when they are due."""

from decimal import Decimal
from typing import Final, Literal, NamedTuple

ORDINARY: Final = "ordinary"
"""Label of a payment that belongs to no fraud scenario."""
FRAUD: Final = "fraud"
"""Label of fraud of no named kind, in replayed files."""

Expectation = Decimal | Literal["unknown"]
"""Amounts above it are expected to be fraud and the others legit; or nothing is expected."""


class Account(NamedTuple):
    """Somebody who pays, and their habits."""

    name: str
    currency: str
    """Home currency, ISO 4217."""
    typical: float
    """Median amount."""
    spread: float
    """Sigma of the amount's logarithm."""
    activity: float
    """How often they pay at their best hour, relative to others."""
    best_hour: float
    """Hour of the day at which they are most active, 0 to 24."""
    peers: tuple[int, ...]
    """Numbers of the accounts they usually pay to."""


class Payment(NamedTuple):
    """A transaction to send and the truth about it, which is never sent."""

    source: str
    target: str
    amount: Decimal
    currency: str
    label: str
    """The scenario it belongs to, or `ORDINARY`."""


class Shot(NamedTuple):
    """Payments that go out together."""

    due: float
    """When to send, in seconds from the start of the run."""
    payments: list[Payment]


def money(amount: float) -> Decimal:
    """Round to cents, at least one."""
    return Decimal(max(1, round(amount * 100))).scaleb(-2)
