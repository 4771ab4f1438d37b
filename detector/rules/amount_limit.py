"""Amounts above a limit."""

from typing import Literal

from detector.rules.rule import Amount, Check, Rule, plain
from detector.windows import Windows
from wire.messages import Transaction


class AmountLimit(Rule):
    """Hits a transaction of more than `limit`, strictly."""

    kind: Literal["amount_limit"]
    limit: Amount

    def check(self, windows: Windows) -> Check:  # noqa: ARG002 - looks at no other transaction
        """Compare decimals."""
        limit = self.limit
        limit_text = plain(limit)

        def above(transaction: Transaction, _received_ms: int) -> str | None:
            amount = transaction.amount
            return f"amount {plain(amount)} > {limit_text}" if amount > limit else None

        return above
