"""The verdicts of one batch, as bytes: the transaction as it is written, and the decision added."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, get_args

from detector.engine import MAX_SCORE, NOTHING_FOUND, Decided
from wire.messages import Decision, Transaction, encode, encode_lines, instant

_NOTHING_FOUND: Final = b',"decision":"legit","score":0,"reasons":[]'
_HEADS: Final = {
    decision: [
        b',"decision":%b,"score":%d,"reasons":' % (encode(decision), score)
        for score in range(MAX_SCORE + 1)
    ]
    for decision in get_args(Decision)
}
"""How all that may be decided is written, by decision and score."""
_SECOND_MS: Final = 1000
_FRACTIONS: Final = [b"", *(b".%03d000" % millisecond for millisecond in range(1, _SECOND_MS))]
"""How the milliseconds of a timestamp are written."""


class VerdictWriter:
    """Writes verdicts that share the rules and the time of decision.

    A verdict's JSON begins as its transaction's does. So only the transaction is written anew, all
    of a batch at once, a line each; the rest is put together from parts that most verdicts of a
    batch share. What comes out is what `encode` gives of a `Verdict`, at a fraction of the cost.
    """

    def __init__(self, rules_version: str, decided_at: datetime) -> None:
        self._after_reasons = b',"rules_version":' + encode(rules_version) + b',"received_at":'
        self._end = b'Z","decided_at":' + encode(decided_at) + b"}"
        # What the records of one second share.
        self._second_ms: int | None = None
        self._received = b""
        self._nothing_found = b""

    def write(
        self,
        transactions: Sequence[Transaction],
        decisions: Sequence[Decided | None],
        received_ms: Sequence[int],
    ) -> Iterator[bytes | None]:
        """Give each verdict as JSON on one line, UTF-8; None where there is none.

        Args:
            transactions: what was decided on.
            decisions: what the rules say of each; None for a duplicate.
            received_ms: each record's timestamp, ms since the epoch, within `EARLIEST_MS` and
                `LATEST_MS`.
        """
        join, end = b"".join, self._end
        lines = encode_lines(transactions).split(b"\n")
        lines.pop()  # behind the last line's end there is nothing
        reasons = _reasons(decisions)
        second_ms = self._second_ms
        for line, decided, at in zip(lines, decisions, received_ms, strict=True):
            if decided is None:
                yield None
                continue
            if second_ms is None or not 0 <= at - second_ms < _SECOND_MS:
                second_ms = self._turn_to(at)
            fraction = _FRACTIONS[at - second_ms]
            if decided is NOTHING_FOUND:
                yield join((line[:-1], self._nothing_found, fraction, end))
            else:
                head = _HEADS[decided.decision][decided.score]
                yield join((line[:-1], head, next(reasons), self._received, fraction, end))

    def _turn_to(self, at_ms: int) -> int:
        second = at_ms // _SECOND_MS
        self._second_ms = second * _SECOND_MS
        to_the_second = encode(instant(self._second_ms))[: -len(b'Z"')]
        self._received = self._after_reasons + to_the_second
        self._nothing_found = _NOTHING_FOUND + self._received
        return self._second_ms


def _reasons(decisions: Iterable[Decided | None]) -> Iterator[bytes]:
    """Give the reasons as JSON, of each decision that may have some."""
    found = [each.reasons for each in decisions if each is not None and each is not NOTHING_FOUND]
    return iter(encode_lines(found).split(b"\n"))
