"""Block and allow lists: accounts, and pairs of accounts, that are known already."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import field_serializer, model_validator

from detector.rules.rule import AccountId, Check, Finding, Row, Rule
from detector.windows import Windows

Side = Literal["source", "target", "either"]


class _Listed(Rule):
    """Hits a transaction of a listed account, or from the first to the second of a pair."""

    accounts: frozenset[AccountId] = frozenset()
    side: Side = "either"
    """Where an account of `accounts` must stand in the transaction."""
    pairs: frozenset[tuple[AccountId, AccountId]] = frozenset()
    """Source and target."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.accounts and not self.pairs:
            raise ValueError("`accounts` or `pairs` must name someone")
        return self

    @field_serializer("accounts", "pairs")
    def _in_order(self, listed: Collection[Any]) -> list[Any]:
        """Write a set the same way each time, for the rules' version."""
        return sorted(listed)

    def check(self, windows: Windows) -> Check:  # noqa: ARG002 - looks at no other transaction
        """Look source and target up."""
        sources = self.accounts if self.side != "target" else frozenset()
        targets = self.accounts if self.side != "source" else frozenset()
        pairs = self.pairs

        def listed(rows: Iterable[Row], _received_ms: Sequence[int]) -> Iterable[Finding]:
            for position, transaction in rows:
                source, target = transaction.source, transaction.target
                if source in sources:
                    yield position, f"source {source} is listed"
                elif target in targets:
                    yield position, f"target {target} is listed"
                elif pairs and (source, target) in pairs:
                    yield position, f"payments from {source} to {target} are listed"

        return listed


class BlockList(_Listed):
    """Adds its weight for those who are listed."""

    kind: Literal["block_list"]


class AllowList(_Listed):
    """Decides legit, score 0, for those who are listed, whatever other rules say.

    A block list can't overrule it. The windows still move: the transaction counts for the next
    ones of the account. In shadow it decides nothing, as any rule.
    """

    allows: ClassVar[bool] = True

    kind: Literal["allow_list"]
