"""A limit on every wait for Kafka: aiokafka has calls that never return from a dead coordinator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from detector.errors import StuckError


@asynccontextmanager
async def deadline(seconds: float, step: str) -> AsyncIterator[None]:
    """Give the body so many seconds.

    Raises:
        StuckError: they are over; names the step.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StuckError(f"kafka did not answer within {seconds:g} s: {step}") from error
