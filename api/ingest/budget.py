"""How much of bodies is held at a time, in all requests of the process together."""

from types import TracebackType
from typing import Final, Self

from api.problems import OVERLOADED, Problem

LIMIT: Final = "max_body_bytes_in_flight"
RESULT_BYTES: Final = 160
"""What one record's result takes in memory until it is told, about: its id, and where it is."""


class Budget:
    """Bytes that bodies may hold together.

    Not counted is what comes in one piece and is no array: at most max_transaction_bytes of each
    of max_requests_in_flight.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def hold(self) -> "Hold":
        """Begin to hold something of it, until the context is left."""
        return Hold(self)


class Hold:
    """What one request holds."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.give_back(self._held)

    def add(self, size: int) -> None:
        """Hold so many bytes more; who holds alone may hold any number, as its own limits let it.

        Raises:
            Problem: others hold too much.
        """
        budget = self._budget
        if budget.held + size > budget.limit and budget.held > self._held:
            raise Problem(OVERLOADED, f"{LIMIT} ({budget.limit}) is reached", limit=LIMIT)
        self._held += size
        budget.held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self._held -= size
        self._budget.held -= size
