"""What the gateway traces: a request, its records on their way to Kafka, and verdicts sent out.

    POST /transactions                     from the header to the answer
    └── send queueing.transactions         from the first record to the last acknowledgement
        └── (the detector's spans)
            └── send /stream               a verdict handed to all live clients of a process

A request is one trace, however many records it brings. What comes of them carries that trace on in
record headers; unsampled requests leave none, and cost nothing further on. Exceptions, bodies,
account ids and query strings (filters name accounts) are never recorded.
"""

import asyncio
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final
from urllib.parse import unquote

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.gateway import Gateway
from api.ingest.batch import NO_HEADERS, Batch
from api.streams.event import Event
from api.streams.position import STREAMS
from wire import spans
from wire.spans import Tracing
from wire.tracing import TRACEPARENT, Headers

SENDS_AT_A_TIME: Final = 32
"""Most traces followed of the events that are handed out together."""

_TRANSACTIONS: Final = "/transactions"
_STREAMS: Final = frozenset(f"/stream/{name}" for name in STREAMS)
_FAILED: Final = 500
_current: ContextVar["Sending | None"] = ContextVar("sending", default=None)


class GatewayTracing:
    """The spans of one gateway process."""

    def __init__(self, tracing: Tracing, gateway: Gateway) -> None:
        self._tracing = tracing
        self._gateway = gateway
        self._topic = gateway.settings.transactions_topic
        self._streams = {
            topic: [f"/stream/{name}" for name, topics in STREAMS.items() if topic in topics]
            for topic in gateway.hub.feeds
        }
        gateway.ingest.trace_with(self)
        gateway.hub.trace = self.handed_out

    def stop(self) -> None:
        """Send what is queued, within a deadline."""
        self._tracing.stop()

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI) within a span, if it is one that is followed."""
        route = _route(scope)
        if route is None:
            await app(scope, receive, send)
            return
        began = time.monotonic()
        span = self._tracing.tracer.start_span(
            f"{scope['method']} {route}",
            spans.from_http(scope["headers"]),
            SpanKind.SERVER,
            {
                "http.request.method": scope["method"],
                "http.route": route,
                "url.scheme": scope["scheme"],
                "network.protocol.version": scope["http_version"],
            },
        )
        is_followed = span.is_recording()
        is_post = scope["method"] == "POST" and route == _TRANSACTIONS
        sending = Sending(self._tracing, span, self._topic) if is_followed else None
        _current.set(sending)  # each request has a task, and so a context, of its own

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                _describe(span, message)
                if is_post:
                    counts = self._gateway.ingest.counts
                    taken = time.monotonic() - began
                    counts.exemplify(message["status"], taken, spans.trace_id(span))
            await send(message)

        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                await app(scope, receive, answer if is_followed else send)
            finally:
                if sending is not None:
                    sending.close()
                span.end()

    # --- records on their way to Kafka (api.ingest.outbox.RecordTrace)

    def headers(self) -> Headers:
        """Give the headers for a record of the current request; none if it isn't traced."""
        sending = _current.get()
        return NO_HEADERS if sending is None else sending.headers()

    def put(self, batch: Batch) -> None:
        """Learn that a record of the current request is in a batch."""
        sending = _current.get()
        if sending is not None:
            sending.put(batch)

    # --- verdicts on their way out

    def handed_out(self, events: Sequence[Event], began_ns: int) -> None:
        """Make a span for each trace among events that were handed to the live clients."""
        traced: dict[bytes, list[Event]] = {}
        for event in events:
            parent = event.traceparent
            if parent is not None and (parent in traced or len(traced) < SENDS_AT_A_TIME):
                traced.setdefault(parent, []).append(event)
        now = time.time()
        for parent, group in traced.items():
            first = group[0]
            span = self._tracing.tracer.start_span(
                "send /stream",
                spans.from_record([(TRACEPARENT, parent)]),
                SpanKind.PRODUCER,
                {
                    "messaging.operation.name": "send",
                    "messaging.operation.type": "send",
                    "messaging.batch.message_count": len(group),
                    "messaging.destination.partition.id": str(first.partition),
                    "messaging.kafka.offset": first.offset,
                    "fraudstream.streams": self._streams[first.topic],
                    "fraudstream.stream.clients": self._listeners(first.topic),
                },
                start_time=began_ns,
            )
            delay = now - first.timestamp_ms / 1000
            self._gateway.hub.delay.exemplify(delay, spans.trace_id(span))
            span.end()

    def _listeners(self, topic: int) -> int:
        channels = self._gateway.hub.channels
        return sum(channels[name].listeners for name, topics in STREAMS.items() if topic in topics)


class Sending:
    """One traced request's records on their way to Kafka."""

    def __init__(self, tracing: Tracing, request: Span, topic: str) -> None:
        self._tracing = tracing
        self._request = request
        self._topic = topic
        self._span: Span | None = None
        self._headers = NO_HEADERS
        self._records = 0
        self._landing: dict[Batch, asyncio.Task[None]] = {}
        self._landed_ns = 0
        self._closed = False

    def headers(self) -> Headers:
        """Give the headers for its next record; the first one begins the span."""
        if self._span is None:
            self._span = self._tracing.tracer.start_span(
                f"send {self._topic}",
                trace.set_span_in_context(self._request),
                SpanKind.PRODUCER,
                {
                    "messaging.system": "kafka",
                    "messaging.destination.name": self._topic,
                    "messaging.operation.name": "send",
                    "messaging.operation.type": "send",
                },
            )
            self._headers = spans.to_record(self._span)
        return self._headers

    def put(self, batch: Batch) -> None:
        """Follow a batch that one of the records is in."""
        self._records += 1
        if batch not in self._landing:
            self._landing[batch] = asyncio.create_task(self._follow(batch, batch.count - 1))

    def close(self) -> None:
        """End with the request; the span ends when the last batch has landed."""
        self._closed = True
        self._end_if_done()

    async def _follow(self, batch: Batch, index: int) -> None:
        await batch.landed()
        self._landed_ns = time.time_ns()
        span = self._span
        assert span is not None  # noqa: S101 - begun before anything was put
        if batch.error is not None:
            span.set_attribute("error.type", type(batch.error).__name__)
            span.set_status(StatusCode.ERROR)
        elif len(self._landing) == 1:
            span.set_attribute("messaging.destination.partition.id", str(batch.partition))
            span.set_attribute("messaging.kafka.offset", batch.base_offset + index)
        asyncio.get_running_loop().call_soon(self._end_if_done)

    def _end_if_done(self) -> None:
        span = self._span
        if span is None or not self._closed or not span.is_recording():
            return
        if all(task.done() for task in self._landing.values()):
            span.set_attribute("messaging.batch.message_count", self._records)
            span.end(self._landed_ns or None)


def _describe(span: Span, start: Message) -> None:
    """Tell what the answer's beginning tells."""
    status = start["status"]
    span.set_attribute("http.response.status_code", status)
    if status >= _FAILED:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
    for name, value in start["headers"]:
        if name in (b"location", b"content-location"):
            _, _, of = value.decode("latin-1").rpartition("/")
            span.set_attribute("fraudstream.transaction_id", unquote(of))
        elif name == b"content-type" and value.startswith(b"text/event-stream"):
            span.end()  # it is open now; it may stay so for days


def _route(scope: Scope) -> str | None:
    """Give the route of a request that is followed; None for pages, documents, health, metrics."""
    path: str = scope["path"]
    if path in _STREAMS or path == _TRANSACTIONS:
        return path
    if path.startswith(_TRANSACTIONS + "/"):
        return _TRANSACTIONS + "/{transaction_id}"
    return None
