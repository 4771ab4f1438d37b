"""Too much money from one account in a short time."""

from typing import Literal

from detector.rules.rule import Amount, Check, Duration, Rule, plain, span
from detector.tally import UNITS_PER_ONE, TallySpec
from detector.windows import Windows
from wire.messages import Transaction


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

        def too_much(transaction: Transaction, _received_ms: int) -> str | None:
            units = tally.total
            if units <= limit_units:
                return None
            return f"{_amount(units)} {transaction.currency} in {within}, limit {limit}"

        return too_much


def _amount(units: int) -> str:
    whole, fraction = divmod(units, UNITS_PER_ONE)
    return f"{whole}.{fraction:04}".rstrip("0").rstrip(".")
