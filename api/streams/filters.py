"""Filters of a stream: which verdicts a client wants to see, and what of them it may."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from api.masking import Viewer, is_masked
from api.streams.event import Event
from wire.errors import FieldError

MAX_TEXT: Final = 64
"""Characters of an account or a rule's name."""
_AMOUNT: Final = re.compile(r"\d{1,18}(\.\d{1,4})?", re.ASCII)
_SEES_ALL: Final = Viewer()
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
    viewer: Viewer = _SEES_ALL
    """What the client may see; who shares a filter sees the same."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its conditions, without what they are about."""
        names = ("min_amount", "account", "currency", "rule")
        return tuple(name for name in names if getattr(self, name) is not None)

    @property
    def is_masked(self) -> bool:
        """Whether accounts are hidden from its clients."""
        return self.viewer.is_masked

    def shown(self, event: Event) -> bytes | None:
        """Give the event's JSON as clients with this filter see it; None if they don't."""
        return self.viewer.verdict(event.value) if self.matches(event) else None

    def matches(self, event: Event) -> bool:
        """Tell whether a client with this filter wants the event."""
        verdict = event.verdict
        return (
            verdict is not None
            and (self.min_amount is None or verdict.amount >= self.min_amount)
            and (self.account is None or self._is_of(verdict.source, verdict.target))
            and (self.currency is None or verdict.currency == self.currency)
            and (self.rule is None or any(reason.rule == self.rule for reason in verdict.reasons))
        )

    def _is_of(self, *accounts: str) -> bool:
        """Whether one of them is the account: by its masked id, or if that is shown by itself."""
        if not self.is_masked and self.account in accounts:
            return True
        mask = self.viewer.mask
        return mask is not None and any(self.account == mask.account(each) for each in accounts)


def parse(
    min_amount: str | None,
    account: str | None,
    currency: str | None,
    rule: str | None,
    viewer: Viewer = _SEES_ALL,
) -> tuple[Filter | None, list[FieldError]]:
    """Read the query's filters; give None for none, and what is wrong with them.

    Who may not see accounts can't ask for one by its id either: trying ids would tell which of them
    there are.
    """
    errors = []
    is_by_mask = account is not None and is_masked(account)
    if viewer.is_masked and account is not None and not is_by_mask:
        errors.append(FieldError("/query/account", "must be a masked id, as in the verdicts"))
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
    # Without need of the mask all clients with the same conditions share one filter.
    seen = viewer if viewer.is_masked or is_by_mask else _SEES_ALL
    wanted = Filter(amount, account, currency, rule, seen)
    return (None if wanted == Filter() else wanted), []
