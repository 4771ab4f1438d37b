"""Metrics: plain numbers kept where the work is done, put into Prometheus's form when it asks.

What counts a thing adds to an int, a dict or a `Histogram`; nothing else happens on the way of a
transaction. A collector of the part reads these at scrape time and makes families of them.
"""

import socket
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from math import inf
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from wire.errors import MetricsError

log = structlog.get_logger(__name__)
SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Bounds for latencies, in seconds."""
RECORDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Bounds for sizes of batches, in records."""

MOST_CLIENTS: Final = 32
"""Clients that are served at a time where metrics have a port of their own."""
CLIENT_S: Final = 5.0
"""Time that one of them has, for its request and its answer."""

Value = float | Mapping[str, float] | Mapping[int, float]
"""One number, or one for each value of a label."""


class Histogram:
    """How often a value fell between which bounds; a tenth of a microsecond an observation."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bound, each value counted once; the last is for what is above all bounds."""
        self.exemplars: dict[int, Exemplar] = {}
        """By bound, the last traced value: one at most for each."""
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or the same value several times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def exemplify(self, value: float, trace_id: str) -> None:
        """Note which trace a value, counted already, is an example of."""
        found = Exemplar({"trace_id": trace_id}, value, time.time())
        self.exemplars[bisect_left(self.bounds, value)] = found


def counter(name: str, text: str, value: Value, label: str = "") -> Metric:
    """Make a family of a sum that only grows; `name` without `_total`."""
    return _filled(CounterMetricFamily(name, text, labels=_labels(label)), value)


def gauge(name: str, text: str, value: Value, label: str = "") -> Metric:
    """Make a family of a number that goes up and down."""
    return _filled(GaugeMetricFamily(name, text, labels=_labels(label)), value)


def histogram(
    name: str, text: str, value: Histogram | Mapping[str, Histogram], label: str = ""
) -> Metric:
    """Make a family of a histogram, or of one for each value of a label."""
    family = HistogramMetricFamily(name, text, labels=_labels(label))
    each = {"": value} if isinstance(value, Histogram) else dict(value)
    for of, found in each.items():
        family.add_metric([of] if label else [], list(_cumulated(found)), found.sum)
    return family


def process() -> Iterable[Metric]:
    """Give the process's own families: memory, CPU time, file descriptors (Linux only)."""
    return _PROCESS.collect()


def written(families: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """Write families as who asks wants them; give the text and its media type.

    Args:
        families: what to write.
        accept: the Accept header; OpenMetrics, which alone has exemplars, where that is named.
    """
    write, media_type = choose_encoder(accept)
    return write(_Given(families)), media_type


def serve(collector: Collector, alive: Callable[[], bool], host: str, port: int) -> "Serving":
    """Serve /metrics and /healthz from a thread, for a part that serves nothing else.

    Args:
        collector: asked at each scrape, in the thread: it must only read.
        alive: what /healthz answers by: 200, or 503 if the process had better be started afresh.
        host: address to listen on.
        port: port to listen on; 0: any free one.

    Raises:
        MetricsError: the address can't be had.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    metrics = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, respond: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = metrics(environ, respond)
                return answer
            case "/healthz" if alive():
                respond("200 OK", _TEXT)
                return [b"alive\n"]
            case "/healthz":
                respond("503 Service Unavailable", _TEXT)
                return [b"stuck\n"]
            case _:
                respond("404 Not Found", _TEXT)
                return [b"there are /metrics and /healthz\n"]

    try:
        server = make_server(host, port, application, _Server, _Silent)
    except OSError as error:
        raise MetricsError(f"can't serve metrics on {host}:{port}: {error.strerror}") from error
    return Serving(server)


class Serving:
    """A running server of metrics."""

    def __init__(self, server: WSGIServer) -> None:
        self.port = server.server_port
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, daemon=True, name="metrics")
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingWSGIServer):
    """Has a thread for each client, but not for many, and for none for long."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._until: dict[socket.socket, float] = {}
        """The clients' connections, and when their time is over."""

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Take a client, unless there are too many."""
        if len(self._until) >= MOST_CLIENTS:
            return False
        self._until[request] = time.monotonic() + CLIENT_S
        return True

    def service_actions(self) -> None:
        """Cut off the clients whose time is over; called twice a second."""
        now = time.monotonic()
        for request, until in dict(self._until).items():
            if now > until:
                with suppress(OSError):  # it went just now
                    request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Let a client go."""
        self._until.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Say what went wrong here; not that a client went."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("metrics not served", exc_info=error)


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Write no access log."""


class _Given(Collector):
    """Families at hand, where a registry is wanted."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


_TEXT: Final = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
_PROCESS: Final = ProcessCollector(registry=None)


def _labels(label: str) -> list[str]:
    return [label] if label else []


def _filled(family: Any, value: Value) -> Metric:
    if isinstance(value, Mapping):
        # In one step, as the loop's thread may add to it meanwhile.
        for of, number in dict(value).items():
            family.add_metric([str(of)], float(number))
    else:
        family.add_metric([], float(value))
    filled: Metric = family
    return filled


def _cumulated(histogram: Histogram) -> Iterator[tuple[str, float] | tuple[str, float, Exemplar]]:
    total = 0
    bounds = (*histogram.bounds, inf)
    for at, (bound, count) in enumerate(zip(bounds, histogram.counts, strict=True)):
        total += count
        written = "+Inf" if bound == inf else repr(float(bound))
        example = histogram.exemplars.get(at)
        yield (written, float(total), example) if example else (written, float(total))
