"""Amounts above a limit."""

from collections.abc import Iterable, Sequence
from typing import Literal

from detector.rules.rule import Amount, Check, Finding, Row, Rule, plain
from detector.windows import Windows


class AmountLimit(Rule):
    """Hits a transaction of more than `limit`, strictly."""

    kind: Literal["amount_limit"]
    limit: Amount

    def check(self, windows: Windows) -> Check:  # noqa: ARG002 - looks at no other transaction
        """Compare decimals."""
        limit = self.limit
        limit_text = plain(limit)

        def above(rows: Iterable[Row], _received_ms: Sequence[int]) -> Iterable[Finding]:
            return [
                (position, f"amount {plain(transaction.amount)} > {limit_text}")
                for position, transaction in rows
                if transaction.amount > limit
            ]

        return above
