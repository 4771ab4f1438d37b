"""The verdicts of one batch, as bytes: the transaction as it is written, and the decision added."""

from datetime import datetime

from detector.engine import Decided
from wire.messages import Transaction, encode, instant


class VerdictWriter:
    """Writes verdicts that share the rules and the time of decision.

    A verdict's JSON begins as its transaction's does. So only the transaction is written anew; the
    rest is put together from parts that most verdicts of a batch share. What comes out is what
    `encode` gives of a `Verdict`, at a third of the cost.
    """

    def __init__(self, rules_version: str, decided_at: datetime) -> None:
        self._after_reasons = b',"rules_version":' + encode(rules_version) + b',"received_at":'
        self._end = b',"decided_at":' + encode(decided_at) + b"}"
        self._nothing_found: tuple[int, bytes] = (-1, b"")

    def write(self, transaction: Transaction, decided: Decided, received_ms: int) -> bytes:
        """Give the verdict as JSON on one line, UTF-8.

        Args:
            transaction: what was decided on.
            decided: what the rules say of it.
            received_ms: its record's timestamp, ms since the epoch, within `EARLIEST_MS` and
                `LATEST_MS`.
        """
        if decided.reasons:
            return encode(transaction)[:-1] + self._ending(decided, received_ms)
        known_ms, ending = self._nothing_found
        if known_ms != received_ms:
            ending = self._ending(decided, received_ms)
            self._nothing_found = received_ms, ending
        return encode(transaction)[:-1] + ending

    def _ending(self, decided: Decided, received_ms: int) -> bytes:
        return (
            b',"decision":"%b","score":%d,"reasons":' % (decided.decision.encode(), decided.score)
            + encode(decided.reasons)
            + self._after_reasons
            + encode(instant(received_ms))
            + self._end
        )
