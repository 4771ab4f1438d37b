"""A condition in CEL, the Common Expression Language (https://cel.dev), for all the rest."""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import Field, model_validator

from detector.rules import comprehension
from detector.rules.rule import Check, Finding, NoAnswer, Row, Rule
from detector.windows import Windows
from wire.messages import Transaction, instant

if TYPE_CHECKING:
    import cel

VARIABLES: Final[dict[str, Callable[[Transaction, int], Any]]] = {
    "transaction_id": lambda transaction, _: transaction.transaction_id,
    "source": lambda transaction, _: transaction.source,
    "target": lambda transaction, _: transaction.target,
    # CEL has no decimals. The nearest double is exact in comparisons with a literal up to 15
    # digits; rules about the last digits of larger amounts belong into amount_limit.
    "amount": lambda transaction, _: float(transaction.amount),
    "currency": lambda transaction, _: transaction.currency,
    "occurred_at": lambda transaction, _: transaction.occurred_at,  # null where it is not given
    "received_at": lambda _, received_ms: instant(received_ms),
    "metadata": lambda transaction, _: transaction.metadata or {},
}
"""What a condition can speak of."""

MAX_DEPTH: Final = 2
"""Comprehensions in or after one another. Measured, the oddest conditions with two of them take
seconds; with three they would take hours."""

# A comprehension's own variable: it takes the name first.
_BOUND: Final = re.compile(rf"\.(?:{'|'.join(comprehension.NAMES)})\(\s*(\w+)\s*,")
_SAMPLES: Final = (
    Transaction("id", "source", "target", Decimal(1)),
    Transaction("id", "source", "target", Decimal(1), occurred_at=instant(0)),
)
"""Transactions with nothing that may be left out, and with all that a condition could look into."""


class Condition(Rule):
    """Hits where `condition` comes out true.

    One that has no answer (a key that is not there, a division by zero) does not hit; the engine
    counts it (`Engine.failures`).
    """

    kind: Literal["cel"]
    condition: str = Field(min_length=1, max_length=2000)

    @model_validator(mode="after")
    def _works(self) -> Self:
        program = _compiled(self.condition)
        bound = set(_BOUND.findall(self.condition))
        unknown = sorted(set(program.variables()) - VARIABLES.keys() - bound)
        if unknown:
            known = ", ".join(VARIABLES)
            raise ValueError(f"`condition` names {', '.join(unknown)}; there are {known}")
        if comprehension.depth(self.condition) > MAX_DEPTH:
            names = ", ".join(comprehension.NAMES)
            raise ValueError(
                f"`condition` has more than {MAX_DEPTH} of {names} in or after one another"
            )
        _try(program)
        return self

    def check(self, windows: Windows) -> Check:  # noqa: ARG002 - looks at no other transaction
        """Evaluate the compiled program with the variables that it names, and no others."""
        program = _compiled(self.condition)
        execute = program.execute
        named = [(name, VARIABLES[name]) for name in program.variables() if name in VARIABLES]
        detail = f"condition holds: {self.condition}"

        def holds(rows: Iterable[Row], received_ms: Sequence[int]) -> Iterable[Finding]:
            for position, transaction in rows:
                at = received_ms[position]
                context = {name: value(transaction, at) for name, value in named}
                try:
                    outcome = execute(context)
                except Exception as error:  # noqa: BLE001 - told to the engine, not raised
                    yield position, NoAnswer(f"{type(error).__name__}: {error}")
                    continue
                if outcome is True:
                    yield position, detail
                elif outcome is not False:
                    yield position, NoAnswer(f"neither true nor false: {outcome!r}")

        return holds


def _compiled(condition: str) -> "cel.Program":
    import cel  # noqa: PLC0415 - it loads a console of its own, and few rules are conditions

    try:
        return cel.compile(condition)
    except ValueError as error:
        raise ValueError(f"`condition` is not CEL: {' '.join(str(error).split())}") from None


def _try(program: "cel.Program") -> None:
    """Find what no data can mend: an unknown function, an outcome that is not true or false.

    Raises:
        ValueError: says what.
    """
    for sample in _SAMPLES:
        context = {name: value(sample, 0) for name, value in VARIABLES.items()}
        try:
            outcome = program.execute(context)
        except RuntimeError as error:
            raise ValueError(f"`condition` can't be evaluated: {error}") from None
        except Exception:  # noqa: BLE001, S112 - hangs on the sample's data, as a key it has not
            continue
        if not isinstance(outcome, bool):
            text = f"`condition` must be true or false; it gives {outcome!r}"
            raise ValueError(text)  # noqa: TRY004
