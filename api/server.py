"""The server process: uvicorn on one listening socket, ended in order by a signal or a failure."""

import asyncio
import gc
import resource
import signal
import socket
from functools import partial
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp

from api import app, listener
from api.access import exposure
from api.addresses import is_loopback
from api.edge import headers
from api.edge.connections import bounded
from api.gateway import Gateway
from api.heads import Heads
from api.protocol import Protocol
from api.settings import ApiSettings
from api.tls import Certificate
from wire import logs, memory

log = structlog.get_logger(__name__)
FAILED = 1
"""Exit code after a failure that was not foreseen."""
OTHER_FILES = 256
"""Open files beside connections: Kafka's, logs, what is served."""

GARBAGE_THRESHOLD = 20_000
"""Objects made, less those dropped, between two looks for cyclic garbage."""


class Server(uvicorn.Server):
    """uvicorn, but open streams are told to end as soon as the signal comes.

    uvicorn runs the lifespan's end only after all connections have closed: too late for streams
    that never close by themselves. A part of the gateway that failed ends it as a signal does: a
    process that lives on and can't do its work is one that nobody starts anew.
    """

    def __init__(
        self, config: uvicorn.Config, gateway: Gateway, certificate: Certificate | None
    ) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._certificate = certificate
        self._watching: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and to watch the certificate."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # one may wait: see __main__
        if self._certificate is not None:
            self._watching = asyncio.create_task(self._certificate.watch.run(), name="certificate")

    def _hang_up(self) -> None:
        """Read certificate and keys anew; by default this signal ends a process."""
        if self._certificate is not None:
            self._certificate.watch.look()
        if self._gateway.gate is not None:
            self._gateway.gate.look()

    async def on_tick(self, counter: int) -> bool:
        """Look, ten times a second, whether it is time to end."""
        if self._gateway.failed and not self.should_exit:
            log.error("a part of the gateway failed: ending, to be started anew")
            self._gateway.drain()
            self.should_exit = True
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal, and have the streams end."""
        self._gateway.drain()
        super().handle_exit(sig, frame)


def serve(settings: ApiSettings) -> int:
    """Serve until SIGINT or SIGTERM, or a part has failed; give the exit code.

    Raises:
        AddressError: the address to listen on can't be had.
        ExposedError: others could come in without being asked who they are.
        AuditError: the audit log can't be written.
        CertificateError: the certificate to serve with can't be used.
        KeyFileError: the file of API keys can't be used.
        KeySetError: the file of those who sign tokens can't be used.
    """
    logs.configure(settings, "api")
    files = _allow_open_files(settings.api_connections + OTHER_FILES)
    sock = (
        socket.socket(fileno=settings.api_fd)
        if settings.api_fd is not None
        else listener.bind(settings.api_host, settings.api_port)
    )
    exposure.check(settings, sock)
    sockets = listener.doors(sock)
    own = None
    if settings.api_worker_fd is not None:
        sockets.append(socket.socket(fileno=settings.api_worker_fd))
        own = sockets[-1].getsockname()[:2]
    host, port = sock.getsockname()[:2]
    connections = bounded(settings, max(1, files - OTHER_FILES), own)
    application = app.create(settings, on_loopback=is_loopback(host), connections=connections)
    gateway = application.gateway
    certificate = Certificate(settings, gateway.audit) if settings.api_tls_certificate else None
    config = configured(application, gateway, certificate)
    log.info("listening", host=host, port=port, tls=certificate is not None)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _end)
    _collect_less()
    memory.keep_freed()
    Server(config, gateway, certificate).run(sockets=sockets)
    return FAILED if gateway.failed else 0


def configured(
    application: ASGIApp, gateway: Gateway, certificate: Certificate | None = None
) -> uvicorn.Config:
    """Configure uvicorn for a gateway, which the application is of."""
    settings = gateway.settings
    return uvicorn.Config(
        application,
        loop=settings.api_event_loop,
        http=partial(Protocol, connections=gateway.connections, heads=Heads()),  # type: ignore[arg-type] # makes one
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=headers.of_every_answer(settings, tls=certificate is not None),
        timeout_graceful_shutdown=settings.api_shutdown_grace_seconds,
        ssl_context_factory=(lambda _config, _default: certificate.context)
        if certificate
        else None,
    )


def _allow_open_files(wanted: int) -> int:
    """Raise the soft limit (often 1024) as far as the hard one lets us: a connection is a file.

    Give how many may be open now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("fewer files may be open than connections are allowed", files=allowed)
    return allowed


def _collect_less() -> None:
    """Look for cyclic garbage seldom: of a thousand requests in flight there is next to none.

    By default that took a third of the time of a busy gateway.
    """
    gc.collect()
    gc.freeze()  # what is there now will stay
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


def _end(_signum: int, _frame: FrameType | None) -> None:
    """Leave with code 0; uvicorn raises its signal once more when it has shut down."""
    raise SystemExit(0)
