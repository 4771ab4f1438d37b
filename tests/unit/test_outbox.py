"""The outbox gathers records for a request to Kafka, and knows when there are enough."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from api.ingest import outbox as module
from api.ingest.outbox import COMPANY, Outbox
from api.ingest.producer import Landed, Producer
from api.settings import ApiSettings
from wire.kafka import RawClient


class Noting(Producer):
    """Notes how many records it is handed, and sends nothing."""

    def __init__(self) -> None:
        super().__init__(RawClient([]), "t", batch_bytes=1 << 20, timeout_ms=1_000)
        self.handed: asyncio.Queue[int] = asyncio.Queue()

    def send(self, batches: Mapping[int, tuple[Any, int]], landed: Landed) -> None:  # noqa: ARG002
        """Note them."""
        self.handed.put_nowait(sum(count for _, count in batches.values()))


async def test_records_wait_for_others_until_there_are_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where every turn brings one more and time sets no end, their number does."""
    monkeypatch.setattr(module, "GATHER_S", 3600.0)
    outbox = Outbox(ApiSettings(kafka_broker_url="127.0.0.1:1"))
    producer = outbox._link._producer = Noting()
    courier = asyncio.create_task(outbox._deliver())

    async def put() -> None:
        for number in range(2 * COMPANY):
            outbox.put(b"acc-%d" % number, b"{}")
            await asyncio.sleep(0)

    outbox._on_partitions(3)
    putting = asyncio.create_task(put())
    first = await asyncio.wait_for(producer.handed.get(), 60)
    putting.cancel()
    courier.cancel()
    await outbox.stop(0)

    assert first == COMPANY
