"""Structuring: a large payment cut into several just under a limit that would be noticed."""

from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from detector.rules.rule import Amount, Check, Duration, Finding, Row, Rule, plain, span
from detector.tally import TallySpec
from detector.windows import Windows


class Structuring(Rule):
    """Hits the `count`-th transaction, and those after it, of `least` to `most` in the window.

    Both ends included, so that `most` can be the very amount another rule still lets pass.
    """

    kind: Literal["structuring"]
    within: Duration
    count: int = Field(ge=2)
    least: Amount
    most: Amount

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least >= self.most:
            raise ValueError("`least` must be less than `most`")
        return self

    @property
    def window(self) -> TallySpec:
        """Count the account's transactions in the band."""
        return TallySpec(self.within, currency=self.currency, least=self.least, most=self.most)

    def check(self, windows: Windows) -> Check:
        """Compare the account's count of such; 0 where the transaction itself is none."""
        tally = windows[self.window]
        least_count = self.count
        band = f"{plain(self.least)} to {plain(self.most)}"
        within = span(self.within)

        def cut_up(rows: Iterable[Row], _received_ms: Sequence[int]) -> Iterable[Finding]:
            counts = tally.totals
            if max(counts, default=0) < least_count:
                return []
            return [
                (
                    position,
                    f"{counts[position]} amounts of {band} in {within}, limit {least_count - 1}",
                )
                for position, _ in rows
                if counts[position] >= least_count
            ]

        return cut_up
