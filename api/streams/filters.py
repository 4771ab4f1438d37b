"""Filters of a stream: which verdicts a client wants to see."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from api.streams.event import Event
from wire.errors import FieldError

MAX_TEXT: Final = 64
"""Characters of an account or a rule's name."""
_AMOUNT: Final = re.compile(r"\d{1,18}(\.\d{1,4})?", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that must all hold; None where there is none."""

    min_amount: Decimal | None = None
    account: str | None = None
    """Source or target."""
    currency: str | None = None
    rule: str | None = None
    """Name of a rule that spoke."""

    def matches(self, event: Event) -> bool:
        """Tell whether a client with this filter wants the event."""
        verdict = event.verdict
        return (
            verdict is not None
            and (self.min_amount is None or verdict.amount >= self.min_amount)
            and (self.account is None or self.account in (verdict.source, verdict.target))
            and (self.currency is None or verdict.currency == self.currency)
            and (self.rule is None or any(reason.rule == self.rule for reason in verdict.reasons))
        )


def parse(
    min_amount: str | None, account: str | None, currency: str | None, rule: str | None
) -> tuple[Filter | None, list[FieldError]]:
    """Read the query's filters; give None for none, and what is wrong with them."""
    errors = []
    if min_amount is not None and not _AMOUNT.fullmatch(min_amount):
        expected = "must be a decimal number, at most 18 digits before and 4 after the point"
        errors.append(FieldError("/query/min_amount", expected))
    if currency is not None and not _CURRENCY.fullmatch(currency):
        errors.append(FieldError("/query/currency", "must be three capital letters (ISO 4217)"))
    errors += [
        FieldError(f"/query/{name}", f"must be 1 to {MAX_TEXT} characters")
        for name, text in (("account", account), ("rule", rule))
        if text is not None and not 1 <= len(text) <= MAX_TEXT
    ]
    if errors:
        return None, errors
    amount = None if min_amount is None else Decimal(min_amount)
    wanted = Filter(amount, account, currency, rule)
    return (None if wanted == Filter() else wanted), []
