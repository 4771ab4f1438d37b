"""Too many transactions of one account in a short time."""

from typing import Literal

from pydantic import Field

from detector.rules.rule import Check, Duration, Rule, span
from detector.tally import TallySpec
from detector.windows import Windows
from wire.messages import Transaction


class Velocity(Rule):
    """Hits an account's transactions beyond `limit` within `window`, this one included."""

    kind: Literal["velocity"]
    within: Duration
    limit: int = Field(ge=1)

    @property
    def window(self) -> TallySpec:
        """Count every transaction of the account."""
        return TallySpec(self.within, currency=self.currency)

    def check(self, windows: Windows) -> Check:
        """Compare the account's count."""
        tally = windows[self.window]
        limit = self.limit
        within = span(self.within)

        def too_many(_transaction: Transaction, _received_ms: int) -> str | None:
            count = tally.total
            return f"{count} transactions in {within}, limit {limit}" if count > limit else None

        return too_many
