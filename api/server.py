"""The server process: uvicorn on one listening socket, ended in order by a signal."""

import asyncio
import gc
import resource
import signal
import socket
from types import FrameType

import structlog
import uvicorn

from api import app, listener
from api.access import exposure
from api.gateway import Gateway
from api.protocol import Protocol
from api.settings import ApiSettings
from api.tls import Certificate
from wire import logs

log = structlog.get_logger(__name__)
OTHER_FILES = 1_024
"""Open files beside streams: connections that post, Kafka, logs."""

GARBAGE_THRESHOLD = 20_000
"""Objects made, less those dropped, between two looks for cyclic garbage."""


class Server(uvicorn.Server):
    """uvicorn, but open streams are told to end as soon as the signal comes.

    uvicorn runs the lifespan's end only after all connections have closed: too late for streams
    that never close by themselves.
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
        if self._certificate is not None:
            self._watching = asyncio.create_task(self._certificate.watch.run(), name="certificate")
        if self._certificate is not None or self._gateway.gate is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)

    def _hang_up(self) -> None:
        """Read certificate and keys anew."""
        if self._certificate is not None:
            self._certificate.watch.look()
        if self._gateway.gate is not None:
            self._gateway.gate.look()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal, and have the streams end."""
        self._gateway.drain()
        super().handle_exit(sig, frame)


def serve(settings: ApiSettings) -> int:
    """Serve until SIGINT or SIGTERM; give the exit code.

    Raises:
        AddressError: the address to listen on can't be had.
        ExposedError: others could come in without being asked who they are.
        CertificateError: the certificate to serve with can't be used.
        KeyFileError: the file of API keys can't be used.
        KeySetError: the file of those who sign tokens can't be used.
    """
    logs.configure(settings, "api")
    certificate = Certificate(settings) if settings.api_tls_certificate else None
    _allow_open_files(settings.stream_clients + OTHER_FILES)
    sock = (
        socket.socket(fileno=settings.api_fd)
        if settings.api_fd is not None
        else listener.bind(settings.api_host, settings.api_port)
    )
    exposure.check(settings, sock)
    sockets = [sock]
    if settings.api_worker_fd is not None:
        sockets.append(socket.socket(fileno=settings.api_worker_fd))
    application = app.create(settings)
    config = uvicorn.Config(
        application,
        loop=settings.api_event_loop,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=settings.api_shutdown_grace_seconds,
        ssl_context_factory=(lambda _config, _default: certificate.context)
        if certificate
        else None,
    )
    host, port = sock.getsockname()[:2]
    log.info("listening", host=host, port=port, tls=certificate is not None)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _end)
    _collect_less()
    Server(config, application.state.gateway, certificate).run(sockets=sockets)
    return 0


def _allow_open_files(wanted: int) -> None:
    """Raise the soft limit (often 1024) as far as the hard one lets us: a stream is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("fewer files may be open than streams are allowed", files=allowed)


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
