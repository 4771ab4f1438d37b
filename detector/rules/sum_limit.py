"""Too much money from one account in a short time."""

from collections.abc import Iterable, Sequence
from typing import Literal

from detector.rules.rule import Amount, Check, Duration, Finding, Row, Rule, plain, span
from detector.tally import UNITS_PER_ONE, TallySpec
from detector.windows import Windows


class SumLimit(Rule):
    """Hits when an account's amounts within the window come to more than `limit`.

    The transaction at hand included; each currency for itself.
    """

    kind: Literal["sum_limit"]
    within: Duration
    limit: Amount

    @property
    def window(self) -> TallySpec:
        """Sum up the account's amounts, by currency."""
        return TallySpec(self.within, sums=True, currency=self.currency)

    def check(self, windows: Windows) -> Check:
        """Compare the account's sum, in whole units."""
        tally = windows[self.window]
        limit_units = int(self.limit * UNITS_PER_ONE)
        limit = plain(self.limit)
        within = span(self.within)

        def too_much(rows: Iterable[Row], _received_ms: Sequence[int]) -> Iterable[Finding]:
            units = tally.totals
            if max(units, default=0) <= limit_units:
                return []
            return [
                (
                    position,
                    f"{_amount(units[position])} {transaction.currency} in {within}, limit {limit}",
                )
                for position, transaction in rows
                if units[position] > limit_units
            ]

        return too_much


def _amount(units: int) -> str:
    whole, fraction = divmod(units, UNITS_PER_ONE)
    return f"{whole}.{fraction:04}".rstrip("0").rstrip(".")
