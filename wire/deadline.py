"""A limit on every wait for Kafka: aiokafka has calls that never return from a dead coordinator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from wire.errors import StuckError

log = structlog.get_logger(__name__)
TELL_AFTER_S: Final = 3.0
"""A step that takes longer is told: what is waited for is known while it lasts."""


@asynccontextmanager
async def deadline(seconds: float, step: str) -> AsyncIterator[None]:
    """Give the body so many seconds.

    Raises:
        StuckError: they are over; names the step.
    """
    loop = asyncio.get_running_loop()
    telling = loop.call_later(TELL_AFTER_S, _tell, step)
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StuckError(f"kafka did not answer within {seconds:g} s: {step}") from error
    finally:
        telling.cancel()


def _tell(step: str) -> None:
    log.warning("waiting for kafka", step=step)
