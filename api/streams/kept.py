"""A part kept going through failures that nobody foresaw, until they are too many."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)
AGAIN_AFTER_S: Final = 1.0
"""Pause before a part that failed goes on."""
FAILURES_IN_A_ROW: Final = 8
"""So many failures of a part, each within CALM_S of its last start, and it is given up."""
CALM_S: Final = 60.0


async def keep(part: Callable[[], Awaitable[None]], broke_off: Callable[[], None]) -> None:
    """Run a part that does not end by itself; call `broke_off` after each of its failures.

    Raises:
        Exception: what it failed of, again and again.
    """
    failures = 0
    while True:
        began = time.monotonic()
        try:
            await part()
        except Exception:
            failures = 1 if time.monotonic() - began > CALM_S else failures + 1
            if failures == FAILURES_IN_A_ROW:
                raise
            log.exception("streams broke off")
            broke_off()
        await asyncio.sleep(AGAIN_AFTER_S)
