"""Spans by OpenTelemetry's SDK: which are made, how they are tied together, where they are sent.

Loaded only where a collector is set. Spans are queued (OTEL_BSP_MAX_QUEUE_SIZE, 2048) and sent in
the background; when the queue is full or the collector away they are dropped, never waited for.
"""

import logging
import threading
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from wire.settings import TracingSettings
from wire.tracing import TRACEPARENT, TRACESTATE, Headers

FLUSH_S: Final = 1.0
"""How long the end of a process waits for the collector to take the last spans."""

# It shows headers that it can't read, with whatever token they hold.
logging.getLogger("opentelemetry.util.re").setLevel(logging.CRITICAL)
_w3c: Final = TraceContextTextMapPropagator()


class Tracing:
    """One process's tracer and what it exports to."""

    def __init__(self, settings: TracingSettings, part: str) -> None:
        given = {"service.name": f"fraudstream-{part}", "service.version": version("fraudstream")}
        headers = settings.collector_headers or None  # None: the SDK looks for others of its names
        self._provider = TracerProvider(
            sampler=_sampler(settings),
            # What the environment says of the resource wins.
            resource=Resource(given).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=settings.traces_url, headers=headers)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self._provider.get_tracer("fraudstream", version("fraudstream"))

    def stop(self) -> None:
        """Send what is queued, within a deadline."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)


def from_http(headers: Iterable[tuple[bytes, bytes]]) -> Context:
    """Give the context that a request's headers name (W3C Trace Context); empty if none."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        text = name.decode("latin-1")
        if text in (TRACEPARENT, TRACESTATE):
            found.setdefault(text, []).append(value.decode("latin-1"))
    # One that is given twice names no parent (section 3.2).
    if len(found.get(TRACEPARENT, ())) != 1:
        return Context()
    return _extracted({name: ",".join(values) for name, values in found.items()})


def from_record(headers: Headers) -> Context:
    """Give the context that a Kafka record's headers name; empty if none."""
    names = (TRACEPARENT, TRACESTATE)
    return _extracted({n: value.decode("latin-1") for n, value in headers if n in names and value})


def to_record(span: Span) -> list[tuple[str, bytes]]:
    """Give the record headers by which others go on from this span."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, trace.set_span_in_context(span, Context()))
    return [(name, value.encode("latin-1")) for name, value in carrier.items()]


def trace_id(span: Span) -> str:
    """Give the id of a span's trace as W3C writes it: 32 hexadecimal digits."""
    return trace.format_trace_id(span.get_span_context().trace_id)


def current_ids() -> Mapping[str, str]:
    """Give trace_id and span_id of the span that is current; nothing if there is none."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }


def _extracted(carrier: Mapping[str, str]) -> Context:
    return _w3c.extract(carrier, Context())


def _sampler(settings: TracingSettings) -> Sampler:
    kind = settings.otel_traces_sampler
    roots: dict[str, Sampler] = {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "traceidratio": TraceIdRatioBased(settings.otel_traces_sampler_arg),
    }
    root = roots[kind.removeprefix("parentbased_")]
    return ParentBased(root) if kind.startswith("parentbased_") else root
