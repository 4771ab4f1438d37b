"""Too many transactions of one account in a short time."""

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from detector.rules.rule import Check, Duration, Finding, Row, Rule, span
from detector.tally import TallySpec
from detector.windows import Windows


class Velocity(Rule):
    """Hits an account's transactions beyond `limit` `within` a time, this one included."""

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

        def too_many(rows: Iterable[Row], _received_ms: Sequence[int]) -> Iterable[Finding]:
            counts = tally.totals
            if max(counts, default=0) <= limit:
                return []
            return [
                (position, f"{counts[position]} transactions in {within}, limit {limit}")
                for position, _ in rows
                if counts[position] > limit
            ]

        return too_many
