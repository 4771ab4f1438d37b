"""`fraudstream up`: the whole stack on one machine, started in order and ended in order."""

import asyncio
import contextlib
import secrets
import socket
import sys
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from pydantic import SecretStr

from api import listener
from api.access import exposure, keys
from api.access.settings import SESSION_KEY_CHARACTERS
from api.settings import ApiSettings
from compose import broker, datadir, embedded, foreground, ready
from compose.broker import BrokerNode
from compose.child import Part
from compose.datadir import DataDir
from compose.errors import StartError
from compose.screen import Screen
from compose.settings import UpSettings
from compose.supervisor import Supervisor
from detector.settings import DetectorSettings
from wire import logs, topics
from wire.settings import TopicSettings, load

STOP_ORDER: Final = ("loadgen", "api", "detector", "kafka")
# Ctrl-C to the last process gone stays below 10 s: these, and broker.STOP_S, add up.
LOADGEN_STOP_S: Final = 2.0
API_STOP_S: Final = 3.0
DETECTOR_STOP_S: Final = 2.0
KAFKA_PATIENCE_S: Final = 60.0
ROUND_TRIP_S: Final = 60.0


def run(settings: UpSettings) -> int:
    """Run the stack until SIGINT or SIGTERM; give the exit code.

    Raises:
        FraudstreamError: the stack can't be started, or a part kept dying.
    """
    logs.configure(settings, "up")
    screen = Screen()
    with (
        datadir.locked(settings.fraudstream_data_dir) as data,
        contextlib.closing(listener.bind(settings.api_host, settings.api_port)) as sock,
        contextlib.ExitStack() as held,
    ):
        exposure.check(settings, sock)
        _check(settings)
        # One more for each gateway process, where they can be told apart: metrics need that.
        own = [
            held.enter_context(contextlib.closing(listener.bind("127.0.0.1", 0)))
            for _ in range(settings.api_workers)
        ]
        if settings.is_external:
            nodes: tuple[BrokerNode, ...] = ()
            if settings.fresh:
                data.empty()
        else:
            nodes = embedded.prepare(settings, data, screen)
        stack = _Stack(settings, data, nodes, (sock, *own), screen)
        asyncio.run(foreground.run(stack.start, STOP_ORDER, screen))
    return 0


def _check(settings: UpSettings) -> None:
    """Tell what is wrong with the parts' settings and files before anything is started or emptied.

    Raises:
        FraudstreamError: something is.
    """
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    if not settings.is_external:
        given.pop("kafka_broker_url", None)
    for kind in (ApiSettings, DetectorSettings):
        load(kind, **{name: given[name] for name in given.keys() & kind.model_fields.keys()})
    if settings.detector_rules is not None:
        from detector import rulesfile  # noqa: PLC0415 - the shipped rules need no look

        rulesfile.load(settings.detector_rules)
    if settings.authenticates:
        from api.access.gate import Gate  # noqa: PLC0415 - it loads the web framework

        Gate(settings)


class _Stack:
    """One run of the stack."""

    def __init__(
        self,
        settings: UpSettings,
        data: DataDir,
        nodes: tuple[BrokerNode, ...],
        sockets: tuple[socket.socket, ...],
        screen: Screen,
    ) -> None:
        self._settings = settings
        self._data = data
        self._nodes = nodes
        self._sock, *self._own = sockets
        self._screen = screen
        # Our own probe and load have to say who they are, too.
        self._key = keys.supervisors_key() if settings.authenticates else None

    @property
    def _kafka(self) -> str:
        return broker.bootstrap(self._nodes) if self._nodes else self._settings.kafka_broker_url

    @property
    def _url(self) -> str:
        host, port = self._sock.getsockname()[:2]
        scheme = "https" if self._settings.api_tls_certificate else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def start(self, supervisor: Supervisor) -> None:
        """Bring everything up, each part when what it needs is there."""
        await embedded.start(self._nodes, self._data, supervisor, self._screen)
        self._screen.step("making the topics")
        await topics.ensure(self._topics(), patience=KAFKA_PATIENCE_S)
        self._screen.step("starting gateway and detector")
        for number in range(1, self._settings.api_workers + 1):
            supervisor.start(self._api(number))
        for number in range(1, self._settings.detectors + 1):
            supervisor.start(self._detector(number))
        try:
            async with asyncio.timeout(ROUND_TRIP_S):
                await ready.round_trip(self._url, self._key)
        except TimeoutError:
            raise StartError(
                f"no transaction made the round trip within {ROUND_TRIP_S:.0f} s; "
                f"the parts' logs are in {self._data.logs}"
            ) from None
        self._screen.ready(self._url, self._data.logs)
        if self._settings.transactions_per_second:
            supervisor.start(self._loadgen())

    def _topics(self) -> TopicSettings:
        names = TopicSettings.model_fields.keys() & self._settings.model_fields_set
        given = {name: getattr(self._settings, name) for name in names}
        given["kafka_broker_url"] = self._kafka
        if len(self._nodes) == 3:  # noqa: PLR2004 - the embedded cluster is of one node or three
            given |= {"replication": 3, "min_insync_replicas": 2}
        return load(TopicSettings, **given)

    def _api(self, number: int) -> Part:
        fds = (self._sock.fileno(), self._own[number - 1].fileno())
        arguments = ["--api-fd", str(fds[0]), "--api-worker-fd", str(fds[1])]
        arguments += ["--api-worker", str(number), "--api-workers-at", self._workers_at]
        return self._part(
            f"api-{number}",
            "api",
            *arguments,
            secret=self._shared,
            pass_fds=fds,
            stop_seconds=API_STOP_S,
        )

    @cached_property
    def _shared(self) -> dict[str, str]:
        """Give what all gateway processes must have the same of."""
        given = {} if self._key is None else {"API_SUPERVISOR_KEY": self._key}
        if self._settings.session_secret is None:
            given["API_SESSION_KEY"] = secrets.token_urlsafe(SESSION_KEY_CHARACTERS)
        return given

    @property
    def _workers_at(self) -> str:
        return ",".join("{}:{}".format(*own.getsockname()) for own in self._own)

    def _detector(self, number: int) -> Part:
        first = self._settings.detector_metrics_port
        arguments = ("--metrics-port", str(first + number - 1)) if first else ()
        return self._part(
            f"detector-{number}", "detector", *arguments, stop_seconds=DETECTOR_STOP_S
        )

    def _loadgen(self) -> Part:
        tps = str(self._settings.transactions_per_second)
        arguments = ["--url", self._url, "--tps", tps, "--duration", "0", "--grace", "1"]
        if self._settings.api_tls_certificate:
            arguments.append("--insecure")  # our own child, by its address, not by its name
        return self._part(
            "loadgen",
            "loadgen",
            *arguments,
            secret={} if self._key is None else {"LOADGEN_TOKEN": self._key},
            on_line=self._screen.line,
            stop_seconds=LOADGEN_STOP_S,
        )

    def _part(
        self,
        name: str,
        module: str,
        *arguments: str,
        secret: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Part:
        return Part(
            name,
            # -P: not what lies in the working directory, which may well have an `api` of its own.
            (sys.executable, "-P", "-m", module, *arguments),
            log=self._data.log(name),
            env={**self._environment(), **secret},
            **options,
        )

    def _environment(self) -> dict[str, str]:
        """Hand the settings on; by environment, as a command line is no place for secrets."""
        given = {name: getattr(self._settings, name) for name in self._settings.model_fields_set}
        given["kafka_broker_url"] = self._kafka
        given["log_format"] = self._settings.log_format
        return {name.upper(): _text(value) for name, value in given.items() if value is not None}


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
