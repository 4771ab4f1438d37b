"""What became of the records of one body, written down as it is told."""

from collections.abc import Sequence
from itertools import count, repeat
from typing import Any, Final, NamedTuple

import msgspec

from api.errors import DeliveryError
from api.ingest import refusals
from api.ingest.batch import Batch
from api.ingest.failures import undelivered
from api.ingest.refusals import Refusal
from api.ingest.turns import Turn
from api.ingest.verdicts import Verdicts
from api.problems import INVALID_TRANSACTION, KAFKA_UNAVAILABLE, Kind, Problem
from wire.messages import encode

WRITTEN_TOGETHER: Final = 250
"""How many results are written before it is asked whether others should have their turn."""
ACCEPTED: Final = 202


class Unsent(NamedTuple):
    """Stands in place of a batch for records that were put into none."""

    error: DeliveryError


Outcome = Batch | Unsent | Refusal
"""Where a valid record is; or why it is none."""


class _Accepted(msgspec.Struct, gc=False):
    """What is told of a record that Kafka has."""

    index: int
    status: int
    transaction_id: str


class _Refused(msgspec.Struct):
    """What is told of any other."""

    index: int
    status: int
    error: msgspec.Raw


class Tally(NamedTuple):
    """What became of all records of a body."""

    accepted: int
    rejected: int
    results: msgspec.Raw
    """The result of each in order, as JSON."""
    causes: set[Kind]
    """The sorts of causes for which some were refused."""

    def document(self) -> dict[str, Any]:
        """Give what is told of it."""
        return {"accepted": self.accepted, "rejected": self.rejected, "results": self.results}

    def added_to(self, problem: Problem) -> Problem:
        """Give a problem of the body that tells of its records, too."""
        return Problem(problem.kind, problem.detail, **problem.extra, **self.document())

    def refusal(self) -> Problem | None:
        """Refuse the body; None if a record was accepted, or sending only some again can help."""
        if self.accepted or len({cause.retriable for cause in self.causes}) > 1:
            return None
        if not self.causes:
            problem = Problem(INVALID_TRANSACTION, "the body holds no transaction")
        elif any(cause.retriable for cause in self.causes):
            kind = KAFKA_UNAVAILABLE if len(self.causes) > 1 else next(iter(self.causes))
            problem = Problem(kind, "no transaction is known to be in Kafka")
        else:
            problem = Problem(INVALID_TRANSACTION, "no transaction is valid")
        return self.added_to(problem)


async def of(
    transaction_ids: Sequence[str],
    outcomes: Sequence[Outcome],
    verdicts: Verdicts,
    turn: Turn,
    *,
    unheard_of: bool = False,
) -> Tally:
    """Tell what became of records whose batches are settled, and expect the accepted's verdicts.

    Are all their ids `unheard_of`, made here just now?
    """
    causes: set[Kind] = set()
    written: list[bytes] = []
    accepted = 0
    for begin in range(0, len(outcomes), WRITTEN_TOGETHER):
        end = begin + WRITTEN_TOGETHER
        ids, share = transaction_ids[begin:end], outcomes[begin:end]
        results: list[_Accepted | _Refused]
        if all(map(_is_accepted, set(share))):
            results = list(map(_Accepted, count(begin), repeat(ACCEPTED), ids))
        else:
            results = [
                _result(*record, causes) for record in zip(count(begin), ids, share, strict=False)
            ]
            ids = [each.transaction_id for each in results if isinstance(each, _Accepted)]
        accepted += len(ids)
        verdicts.accepted_all(ids, unheard_of=unheard_of)
        written.append(encode(results)[1:-1])
        if turn.over:
            await turn.pass_on()
    results_json = msgspec.Raw(b"[%b]" % b",".join(written))
    return Tally(accepted, len(outcomes) - accepted, results_json, causes)


def _is_accepted(outcome: Outcome) -> bool:
    return not isinstance(outcome, Refusal) and outcome.error is None


def _result(
    index: int, transaction_id: str, outcome: Outcome, causes: set[Kind]
) -> _Accepted | _Refused:
    """Say what became of one record; if it was refused, add to the causes."""
    if not isinstance(outcome, Refusal):
        if outcome.error is None:
            return _Accepted(index, ACCEPTED, transaction_id)
        outcome = refusals.written(undelivered(outcome.error, transaction_id))
    causes.add(outcome.kind)
    return _Refused(index, outcome.kind.status, outcome.problem)
