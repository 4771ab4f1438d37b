"""The rules: one module a kind, and a set of them as one rules file gives it.

A new kind is a subclass of `Rule` in a module of its own, named in `AnyRule` here.
"""

from dataclasses import dataclass
from typing import Annotated, Final, get_args

from pydantic import Field

from detector.rules.amount_limit import AmountLimit
from detector.rules.condition import Condition
from detector.rules.lists import AllowList, BlockList
from detector.rules.new_counterparty import NewCounterparty
from detector.rules.odd_hours import OddHours
from detector.rules.rule import Check, Finding, NoAnswer, Row, Rule
from detector.rules.structuring import Structuring
from detector.rules.sum_limit import SumLimit
from detector.rules.velocity import Velocity
from detector.windows import Window, WindowSpec

__all__ = ["KINDS", "AnyRule", "Check", "Finding", "NoAnswer", "Row", "Rule", "RuleSet"]

AnyRule = Annotated[
    AmountLimit
    | Velocity
    | SumLimit
    | Structuring
    | NewCounterparty
    | BlockList
    | AllowList
    | OddHours
    | Condition,
    Field(discriminator="kind"),
]
KINDS: Final[tuple[str, ...]] = tuple(
    get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(AnyRule)[0])
)
"""What `kind` may be."""


@dataclass(frozen=True)
class RuleSet:
    """What a rules file says."""

    version: str
    """Short hash of everything in the file that can touch a verdict."""
    threshold: int
    """A score of at least this is fraud; 1 to 100."""
    duplicates_ms: int
    """How long a transaction's id is remembered."""
    rules: tuple[Rule, ...]

    @property
    def windows(self) -> frozenset[WindowSpec[Window]]:
        """The windows that the rules read."""
        return frozenset(rule.window for rule in self.rules if rule.window is not None)

    @property
    def needs_windows(self) -> bool:
        """True when a rule looks back; duplicates are looked for in any case."""
        return bool(self.windows)

    @property
    def horizon_ms(self) -> int:
        """How far back in the log a replay must begin to judge as if it had read everything.

        The longest window of a rule *plus* that of the duplicates: whether a record in a rule's
        window counts depends on whether it was a duplicate itself.
        """
        return self.duplicates_ms + max((spec.window_ms for spec in self.windows), default=0)
