"""What drives a run: this process alone, or several that share the rate."""

from typing import Protocol

from loadgen.measure import Tally
from loadgen.run import Start


class Driver(Protocol):
    """Prepares, drives and ends a run, and hands out what was counted on the way."""

    @property
    def in_flight(self) -> int:
        """Transactions sent and not answered yet."""

    async def prepare(self) -> None:
        """Wait until the target is there, and subscribe to the verdicts.

        Raises:
            FraudstreamError: it could not be done.
        """

    async def drive(self, start: Start) -> float:
        """Run to the end; give the seconds for which it sent."""

    def stop(self) -> None:
        """Send nothing more, and end when what is in flight is answered."""

    def collect(self) -> Tally:
        """Give what was counted since the last call."""

    async def close(self) -> None:
        """Disconnect."""
