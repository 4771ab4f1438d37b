"""A large first payment to somebody the account has not paid lately."""

from collections.abc import Iterable, Sequence
from typing import Literal

from detector.rules.rule import Amount, Check, Duration, Finding, Row, Rule, plain, span
from detector.windows import CounterpartiesSpec, Windows


class NewCounterparty(Rule):
    """Hits a transaction above `limit` to a target that the source did not pay in the window.

    The window is also how far back a detector reads when it takes a partition over, so days are
    dear. A payment of any amount, in any currency, makes a counterparty known.
    """

    kind: Literal["new_counterparty"]
    within: Duration
    limit: Amount

    @property
    def window(self) -> CounterpartiesSpec:
        """Remember whom the account pays."""
        return CounterpartiesSpec(self.within)

    def check(self, windows: Windows) -> Check:
        """Ask if the target is new."""
        counterparties = windows[self.window]
        limit = self.limit
        tail = f"> {plain(limit)}, to an account not paid in {span(self.within)}"

        def new_and_large(rows: Iterable[Row], _received_ms: Sequence[int]) -> Iterable[Finding]:
            known = counterparties.known
            return [
                (position, f"amount {plain(transaction.amount)} {tail}")
                for position, transaction in rows
                if not known[position] and transaction.amount > limit
            ]

        return new_and_large
