"""The gateway's parts, made once per process and started and stopped together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime

from api.access.gate import Gate
from api.edge import hosts
from api.edge.connections import Connections, bounded
from api.edge.limits import Limits
from api.ingest.endpoint import Ingest
from api.settings import ApiSettings
from api.streams.hub import Hub
from api.workers import Workers
from wire import audit


class Gateway:
    """One process's gate, hub (streams out) and ingest (transactions in)."""

    def __init__(
        self,
        settings: ApiSettings,
        *,
        on_loopback: bool = True,
        connections: Connections | None = None,
    ) -> None:
        """Make the parts.

        Args:
            settings: of all of them.
            on_loopback: only this machine can reach it.
            connections: counts them; None: bounded as the settings say.

        Raises:
            KeyFileError: the file of API keys can't be used.
            KeySetError: the file of those who sign tokens can't be used.
        """
        self.settings = settings
        self.started_at = datetime.now(UTC)
        self.hub = Hub(settings)
        self.audit = audit.opened(settings, "api")
        self.connections = connections or bounded(settings)
        self.hosts = hosts.served(settings.allowed_hosts, on_loopback=on_loopback)
        """None where a request may be for any."""
        self.limits = Limits(settings)
        self.workers = Workers(settings)
        self.ingest = Ingest(settings, self.limits, self.workers)
        self.hub.taps.append(self.ingest.saw)
        self.gate = Gate(settings, self.audit, self.limits) if settings.authenticates else None
        """None where nobody is asked who they are."""
        if self.gate is not None:
            self.hub.current = self.gate.current
            self.gate.keys.on_change.append(self.hub.check_credentials)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the parts; none needs a broker to be up yet."""
        async with self.gate.running() if self.gate is not None else nullcontext():
            await self.hub.start()
            try:
                await self.ingest.start()
                try:
                    yield
                finally:
                    await self.ingest.stop()
            finally:
                await self.hub.stop()
                await self.workers.stop()
                self.audit.close()

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

    @property
    def failed(self) -> bool:
        """True once a part has ended that only a new process can bring back."""
        return self.ingest.failed or self.hub.failed
