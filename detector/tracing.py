"""What the detector traces: of each Kafka transaction, the traces that its records carry.

    process queueing.transactions      from the decisions to the commit
    ├── decide                         the rules, on all of that trace's records in the batch
    └── send verdicts                  the verdicts, to the commit

Records tell by their `traceparent` header (W3C Trace Context), and only those whose trace is
recorded have one. Spans are made for each trace of a batch, not for each record: 10,000 records of
one request cost three. A verdict carries the `process` span on, in a header of the same name.
"""

import time
from types import TracebackType
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from detector.settings import DetectorSettings
from wire import spans, tracing
from wire.metrics import Histogram
from wire.spans import Tracing
from wire.tracing import TRACEPARENT, Headers

TRACES_A_BATCH: Final = 64
"""Most traces followed of one batch; the verdicts of more carry on the trace they came with."""

_NONE: Final[list[tuple[str, bytes]]] = []


class DetectorTracing:
    """The spans of one detector process."""

    def __init__(self, traced: Tracing, settings: DetectorSettings) -> None:
        self._tracing = traced
        self._settings = settings

    def batch(self) -> "BatchTrace":
        """Begin a batch."""
        return BatchTrace(self._tracing, self._settings)


class BatchTrace:
    """The traces in one batch; as a context, the Kafka transaction that it is written in."""

    def __init__(self, traced: Tracing, settings: DetectorSettings) -> None:
        self._tracer = traced.tracer
        self._name = f"process {settings.transactions_topic}"
        self._attributes: dict[str, str] = {
            "messaging.system": "kafka",
            "messaging.destination.name": settings.transactions_topic,
            "messaging.consumer.group.name": settings.detector_group,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
        }
        self._began_ns = time.time_ns()
        self._decided_ns = self._writing_ns = 0
        self._spans: dict[bytes, tuple[Span, list[tuple[str, bytes]]]] = {}
        self._records: dict[bytes, int] = {}

    def headers(self, headers: Headers) -> list[tuple[str, bytes]]:
        """Give the headers for the verdict on a record that has headers."""
        parent = tracing.sampled(headers)
        if parent is None:
            return _NONE
        found = self._spans.get(parent)
        if found is None:
            if len(self._spans) >= TRACES_A_BATCH:
                return [(TRACEPARENT, parent)]
            span = self._tracer.start_span(
                self._name,
                spans.from_record(headers),
                SpanKind.CONSUMER,
                self._attributes,
                start_time=self._began_ns,
            )
            found = self._spans[parent] = span, spans.to_record(span)
            self._records[parent] = 0
        self._records[parent] += 1
        return found[1]

    def decided(self) -> None:
        """Note that everything is decided."""
        self._decided_ns = time.time_ns()

    def __enter__(self) -> Self:
        """Begin to write: perhaps later than decided, while the batch before is still written."""
        self._writing_ns = time.time_ns()
        return self

    def __exit__(
        self, _kind: object, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Note that the Kafka transaction was committed, or was not."""
        now_ns = time.time_ns()
        for parent, (span, _) in self._spans.items():
            inside = trace.set_span_in_context(span)
            decide = self._tracer.start_span("decide", inside, start_time=self._began_ns)
            decide.end(self._decided_ns)
            sent = self._tracer.start_span(
                "send verdicts", inside, SpanKind.PRODUCER, start_time=self._writing_ns
            )
            for each in (sent, span):
                each.set_attribute("messaging.batch.message_count", self._records[parent])
                if error is not None:
                    # Its name says what happened; its text could hold anything.
                    each.set_attribute("error.type", type(error).__name__)
                    each.set_status(StatusCode.ERROR)
            sent.end(now_ns)
            span.end(now_ns)

    def exemplify(self, histogram: Histogram, value: float) -> None:
        """Name one of the traces as an example of a value that was just counted."""
        for span, _ in self._spans.values():
            histogram.exemplify(value, spans.trace_id(span))
            return
