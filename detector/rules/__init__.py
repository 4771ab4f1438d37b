"""The rules: one module a kind, and a set of them as one rules file gives it.

A new kind is a subclass of `Rule` in a module of its own, named in `AnyRule` here.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from detector.rules.amount_limit import AmountLimit
from detector.rules.rule import Check, Rule

__all__ = ["AmountLimit", "AnyRule", "Check", "Rule", "RuleSet"]

AnyRule = Annotated[AmountLimit, Field(discriminator="kind")]


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
    def needs_windows(self) -> bool:
        """True when a rule looks back; duplicates are looked for in any case."""
        return any(rule.window_ms for rule in self.rules)

    @property
    def horizon_ms(self) -> int:
        """How far back in the log a replay must begin to judge as if it had read everything.

        The longest window of a rule *plus* that of the duplicates: whether a record in a rule's
        window counts depends on whether it was a duplicate itself.
        """
        return self.duplicates_ms + max((rule.window_ms for rule in self.rules), default=0)
