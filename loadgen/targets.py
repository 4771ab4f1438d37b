"""What the load is driven against: the seam between the run and HTTP or Kafka."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

ACCEPTED: Final = "accepted"


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
    retry_after: float | None = None
    """Seconds after which to try again; None where that makes no sense."""


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
