"""Turns at the event loop: work on a large body lets other requests have theirs."""

import asyncio
import time
from typing import Final

TURN_S: Final = 0.002
"""How long one body is worked on in one go: a single POST takes about as long in all."""


class Turn:
    """The time that some work has until others have theirs."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + TURN_S

    @property
    def over(self) -> bool:
        """Whether others should have their turn now."""
        return time.monotonic() >= self._ends

    async def pass_on(self) -> None:
        """Let whoever is ready have a turn, and begin another."""
        await asyncio.sleep(0)
        self._ends = time.monotonic() + TURN_S
