"""A rule: what every kind has in common, and the values rules are written with."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Annotated, ClassVar, Final, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from detector.windows import Window, Windows, WindowSpec
from wire.messages import MAX_AMOUNT_DIGITS, Transaction


class NoAnswer(NamedTuple):
    """A rule that can't tell whether it hits a transaction."""

    why: str
    """For a log up to the first colon; what follows may quote the record."""


Row = tuple[int, Transaction]
"""A transaction of a batch, after its position there: where the windows have their answer to it."""
Finding = tuple[int, str | NoAnswer]
"""A position, and why the rule hits the transaction there."""
Check = Callable[[Iterable[Row], Sequence[int]], Iterable[Finding]]
"""Finds what a rule hits among the rows that it is to see.

The timestamps of all records of the batch (ms), by position, come with them.
"""

MS_PER: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d{1,9})(ms|s|m|h|d)")


class Rule(BaseModel, ABC):
    """One rule of a rules file: its data, and how to check a transaction against it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allows: ClassVar[bool] = False
    """A hit decides legit, whatever other rules say."""

    kind: str
    id: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    version: str = Field("1", min_length=1, max_length=32)
    weight: int = Field(100, ge=0, le=100)
    """What a hit adds to the score."""
    shadow: bool = False
    """On trial: hits stand in the verdict's reasons, and never count."""
    description: str = Field("", max_length=1000)
    currency: str | None = Field(None, pattern=r"^[A-Z]{3}$")
    """The rule sees transactions in this currency only; None: in any."""

    @property
    def window(self) -> WindowSpec[Window] | None:
        """The window that the rule reads, if it looks back at all."""
        return None

    @abstractmethod
    def check(self, windows: Windows) -> Check:
        """Make the check. It is called after the windows have taken the batch in."""

    def rows(self, transactions: Sequence[Transaction]) -> Iterable[Row]:
        """Give those of a batch that the rule is to see: in its currency, if it has one."""
        rows, currency = enumerate(transactions), self.currency
        if currency is None:
            return rows
        return (row for row in rows if row[1].currency == currency)


def _milliseconds(value: object) -> object:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('expected a duration like "90s", "10m", "24h" or "7d"')
    return int(match[1]) * MS_PER[match[2]]


def _exact(value: object) -> object:
    if isinstance(value, (bool, float)):
        raise ValueError("expected an amount like 900 or 900.50")  # noqa: TRY004 - pydantic's way
    return value


Duration = Annotated[int, BeforeValidator(_milliseconds), Field(gt=0)]
"""Milliseconds, written "90s", "10m", "24h" or "7d"."""
Amount = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(gt=0, max_digits=MAX_AMOUNT_DIGITS, decimal_places=4),
]
AccountId = Annotated[str, Field(min_length=1, max_length=64)]


def plain(amount: Decimal) -> str:
    """Write an amount without an exponent."""
    text = str(amount)  # a third of the cost, and nearly always plain
    return format(amount, "f") if "E" in text else text


def span(duration_ms: int) -> str:
    """Write a duration for people, in the largest unit that gives a whole number above one."""
    for unit, name in (("d", "d"), ("h", "h"), ("m", "min"), ("s", "s")):
        count, rest = divmod(duration_ms, MS_PER[unit])
        if not rest and count > 1:
            return f"{count} {name}"
    return f"{duration_ms} ms"
