"""The gateway's parts, made once per process and started and stopped together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from api.ingest.endpoint import Ingest
from api.settings import ApiSettings
from api.streams.hub import Hub


class Gateway:
    """One process's hub (streams out) and ingest (transactions in)."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.started_at = datetime.now(UTC)
        self.hub = Hub(settings)
        self.ingest = Ingest(settings)
        self.hub.taps.append(self.ingest.saw)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run both parts; neither needs a broker to be up yet."""
        await self.hub.start()
        try:
            await self.ingest.start()
            try:
                yield
            finally:
                await self.ingest.stop()
        finally:
            await self.hub.stop()

    def drain(self) -> None:
        """End open streams and answer what is in flight.

        Called at the shutdown signal, as uvicorn waits for connections.
        """
        self.hub.drain()
        self.ingest.drain()

    @property
    def ready(self) -> bool:
        """True while transactions can be taken and both streams follow their topics."""
        return self.ingest.ready and self.hub.following
