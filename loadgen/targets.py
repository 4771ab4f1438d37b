"""What the load is driven against: the seam between the run and HTTP or Kafka."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

ACCEPTED: Final = "accepted"
RETRY_AFTER_S: Final = 1.0
"""Where the target does not say after what time to try again."""
_FOR_NOW: Final = frozenset({"429", "503"})


class Record(NamedTuple):
    """A transaction as it goes out."""

    key: bytes
    """The source account, UTF-8."""
    value: bytes
    """The transaction as JSON, UTF-8."""


class Answer(NamedTuple):
    """What became of the records of one request."""

    codes: Sequence[str]
    """One a record, in order: `ACCEPTED`, an HTTP status, or a kind of failure."""
    retry_after: float = RETRY_AFTER_S
    """Seconds after which to try again what was refused for now."""


def is_for_now(code: str) -> bool:
    """Tell whether to try again can help: refused for now, or no answer at all."""
    return code in _FOR_NOW or not (code == ACCEPTED or code.isdecimal())


class Target(Protocol):
    """Something that takes records."""

    async def ready(self, patience: float) -> None:
        """Wait until it can take records.

        Raises:
            TargetDownError: it could not within the patience (seconds).
        """

    async def send(self, records: Sequence[Record]) -> Answer:
        """Hand records over; a failure is an answer, not an error."""

    async def close(self) -> None:
        """Disconnect."""
