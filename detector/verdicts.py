"""The verdicts of one batch, as bytes: the transaction as it is written, and the decision added."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from detector.engine import NOTHING_FOUND, Decided
from wire.messages import Transaction, encode, instant

_NOTHING_FOUND: Final = b',"decision":"legit","score":0,"reasons":[]'
_FRACTIONS: Final = [b"", *(b".%03d000" % millisecond for millisecond in range(1, 1000))]
"""How the milliseconds of a timestamp are written."""


class VerdictWriter:
    """Writes verdicts that share the rules and the time of decision.

    A verdict's JSON begins as its transaction's does. So only the transaction is written anew; the
    rest is put together from parts that most verdicts of a batch share. What comes out is what
    `encode` gives of a `Verdict`, at a third of the cost.
    """

    def __init__(self, rules_version: str, decided_at: datetime) -> None:
        self._after_reasons = b',"rules_version":' + encode(rules_version) + b',"received_at":'
        self._end = b'Z","decided_at":' + encode(decided_at) + b"}"
        # What the records of one second share.
        self._second: int | None = None
        self._received = b""
        self._nothing_found = b""

    def write(
        self,
        transactions: Iterable[Transaction],
        decisions: Iterable[Decided | None],
        received_ms: Iterable[int],
    ) -> Iterator[bytes | None]:
        """Give each verdict as JSON on one line, UTF-8; None where there is none.

        Args:
            transactions: what was decided on.
            decisions: what the rules say of each; None for a duplicate.
            received_ms: each record's timestamp, ms since the epoch, within `EARLIEST_MS` and
                `LATEST_MS`.
        """
        end = self._end
        for transaction, decided, at in zip(transactions, decisions, received_ms, strict=True):
            if decided is None:
                yield None
                continue
            second, millisecond = divmod(at, 1000)
            if second != self._second:
                self._turn_to(second)
            begun = encode(transaction)[:-1]
            if decided is NOTHING_FOUND:
                yield begun + self._nothing_found + _FRACTIONS[millisecond] + end
                continue
            decision = decided.decision.encode(), decided.score
            yield (
                begun
                + b',"decision":"%b","score":%d,"reasons":' % decision
                + encode(decided.reasons)
                + self._received
                + _FRACTIONS[millisecond]
                + end
            )

    def _turn_to(self, second: int) -> None:
        self._second = second
        to_the_second = encode(instant(second * 1000))[: -len(b'Z"')]
        self._received = self._after_reasons + to_the_second
        self._nothing_found = _NOTHING_FOUND + self._received
