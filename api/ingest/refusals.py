"""What is told of records that are refused: written once, and bounded for each body."""

from functools import lru_cache
from typing import Final

import msgspec

from api.ingest import bodies
from api.ingest.budget import Hold
from api.ingest.failures import invalid
from api.problems import INVALID_TRANSACTION, NOT_JSON, Kind, Problem
from wire.errors import FieldError, MessageError
from wire.messages import encode

MAX_ERRORS_PER_RECORD: Final = 4
"""Most field errors told for one record of a batch."""
MAX_EXPLAINED_BYTES: Final = 262_144
"""Most bytes of problems that explain one body's refusals, some thousand; others are in short."""
_IN_SHORT: Final = "is not valid; only the body's first refusals are explained"


class Refusal(msgspec.Struct, frozen=True, eq=False):
    """Why a record is not taken."""

    kind: Kind
    problem: msgspec.Raw
    """The problem's document, as JSON."""


class Refusals:
    """Writes the refusals of one body, in full at first and then in short."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._left = MAX_EXPLAINED_BYTES

    def of(self, error: MessageError) -> Refusal:
        """Say why a record is no transaction."""
        if self._left > 0:
            refusal = written(invalid(error, MAX_ERRORS_PER_RECORD))
            size = len(refusal.problem)
            try:
                self._hold.add(size)
            except Problem:  # others hold too much: this can be told in short
                self._left = 0
            else:
                self._left -= size
                return refusal
        return _NOT_VALID if error.is_json else _NOT_JSON


@lru_cache(1)
def too_large(limit: int) -> Refusal:
    """Say that a record has more bytes than max_transaction_bytes."""
    return written(bodies.too_large("max_transaction_bytes", limit))


def written(problem: Problem) -> Refusal:
    """Write a problem down."""
    return Refusal(problem.kind, msgspec.Raw(encode(problem.document())))


_NOT_VALID: Final = written(
    Problem(INVALID_TRANSACTION, "not a valid transaction", errors=[FieldError("", _IN_SHORT)])
)
_NOT_JSON: Final = written(Problem(NOT_JSON, "not valid JSON"))
