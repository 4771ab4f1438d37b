"""The transactions topic as a target, as in the tutorial: no gateway between."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from loadgen.errors import TargetDownError
from loadgen.targets import ACCEPTED, Answer, Record
from wire import kafka, topics
from wire.settings import KafkaSettings

LINGER_MS: Final = 2
"""Gathering a little costs less CPU than a request for each record."""


class KafkaTarget:
    """A producer with acks=all."""

    def __init__(self, settings: KafkaSettings, *, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._producer: AIOKafkaProducer | None = None

    async def ready(self, patience: float) -> None:
        """Wait for the topic, and connect."""
        topic = self._settings.transactions_topic
        # One that is there takes a moment to say so.
        seconds = max(patience, self._timeout)
        try:
            async with asyncio.timeout(seconds):
                await topics.wait(self._settings, topic)
                self._producer = await kafka.start(
                    lambda: kafka.producer(
                        self._settings,
                        linger_ms=LINGER_MS,
                        request_timeout_ms=round(self._timeout * 1000),
                    )
                )
        except TimeoutError:
            where = self._settings.kafka_broker_url
            raise TargetDownError(f"no topic {topic} at {where} after {seconds:g} s") from None

    async def send(self, records: Sequence[Record]) -> Answer:
        """Produce the records and wait until they are acknowledged."""
        assert self._producer is not None, "ready() comes first"  # noqa: S101 - a slip of ours
        topic = self._settings.transactions_topic
        try:
            pending = [await self._producer.send(topic, value, key=key) for key, value in records]
        except KafkaError as error:
            return Answer((type(error).__name__,) * len(records))
        return Answer([await _code(each) for each in pending])

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await kafka.close(self._producer)


async def _code(pending: asyncio.Future[Any]) -> str:
    try:
        await pending
    except KafkaError as error:
        return type(error).__name__
    return ACCEPTED
