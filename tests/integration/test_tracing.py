"""One transaction's trace, through gateway, Kafka, detector and stream; and nothing without it."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from api import listener
from tests.conftest import make_topics, topic_settings
from tests.processes import Programs, environment, is_ready, programs, until
from tests.serving import Quiet, serving
from tests.trust import TRUST
from wire.settings import TopicSettings

KIND = Span.SpanKind
NDJSON = {"content-type": "application/x-ndjson"}


@dataclass
class Found:
    """A span as it was received."""

    service: str
    span: Span

    @property
    def name(self) -> str:
        """Its name."""
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes, as text."""
        return {
            a.key: a.value.string_value or a.value.int_value or a.value.array_value
            for a in self.span.attributes
        }


@dataclass
class Collector:
    """An OTLP receiver."""

    url: str
    spans: list[Found] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep what was exported."""
        for resource in request.resource_spans:
            of = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [Found(of["service.name"], span) for span in scope.spans]

    def trace(self, trace_id: str) -> dict[str, Found]:
        """Give a trace's spans, by name."""
        found = [f for f in self.spans if f.span.trace_id.hex() == trace_id]
        assert len({f.name for f in found}) == len(found), [f.name for f in found]
        return {f.name: f for f in found}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Receive traces on a free port."""

    class Answering(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            made.authorizations.add(self.headers.get("x-key", ""))
            if self.headers.get("content-encoding") == "gzip":
                raise NotImplementedError
            made.take(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

    with serving(Answering) as url:
        made = Collector(url)
        yield made


@dataclass
class Stack:
    """A gateway and a detector that trace."""

    client: httpx.Client
    settings: TopicSettings
    detector_metrics: str
    programs: Programs

    @property
    def sending(self) -> str:
        """The span of a transaction that goes into Kafka."""
        return f"send {self.settings.transactions_topic}"

    @property
    def processing(self) -> str:
        """The span of a transaction that comes from there."""
        return f"process {self.settings.transactions_topic}"

    @property
    def expected(self) -> set[str]:
        """The spans of a transaction's trace."""
        own = {"POST /transactions", "decide", "send verdicts", "send /stream"}
        return own | {self.sending, self.processing}


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, kafka_address: str, collector: Collector
) -> Iterator[Stack]:
    """Run gateway and detector; a tenth of a second after a span has ended, it is exported.

    On topics of their own: where others read the same, some of a trace's spans would be theirs.
    """
    settings = topic_settings(kafka_address)
    make_topics(settings)
    env = environment(
        settings,
        otel_exporter_otlp_endpoint=collector.url,
        otel_exporter_otlp_headers="x-key=c4n4ry",
        otel_bsp_schedule_delay=100,
        detector_group=settings.transactions_topic,
        log_format="json",
        log_level="debug",
    )
    with (
        programs(tmp_path_factory.mktemp("tracing")) as made,
        closing(listener.bind("127.0.0.1", 0)) as sock,
        closing(listener.bind("127.0.0.1", 0)) as free,
    ):
        port = free.getsockname()[1]
        free.close()
        made.start("-m", "api", "--api-fd", str(sock.fileno()), env=env, fds=(sock.fileno(),))
        made.start("-m", "detector", "--metrics-port", str(port), env=env)
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=30, verify=TRUST) as client:
            until(lambda: is_ready(client))
            yield Stack(client, settings, f"http://127.0.0.1:{port}/metrics", made)


def context(*, sampled: bool = True) -> tuple[str, dict[str, str]]:
    """Make the context of a client that traces: the trace's id and the headers."""
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-0{int(sampled)}"}


def test_one_transaction_is_one_trace(stack: Stack, collector: Collector) -> None:
    """From the request through Kafka to the verdict and the stream, each span under its cause."""
    trace_id, headers = context()
    body = {"source": "secret-anna", "target": "ben", "amount": "900.01"}
    answer = stack.client.post("/transactions", json=body, headers=headers | {"Prefer": "wait=20"})
    assert answer.status_code == 200
    until(lambda: collector.trace(trace_id).keys() >= stack.expected)
    found = collector.trace(trace_id)
    assert found.keys() == stack.expected
    parents = {
        stack.sending: "POST /transactions",
        stack.processing: stack.sending,
        "decide": stack.processing,
        "send verdicts": stack.processing,
        "send /stream": stack.processing,
    }
    for child, parent in parents.items():
        assert found[child].span.parent_span_id == found[parent].span.span_id, child
    post, sent = found["POST /transactions"], found[stack.sending]
    assert post.span.parent_span_id.hex() == headers["traceparent"].split("-")[2]
    assert (post.service, post.span.kind) == ("fraudstream-api", KIND.SPAN_KIND_SERVER)
    assert post.attributes["http.response.status_code"] == 200
    assert post.attributes["fraudstream.transaction_id"] == answer.json()["transaction_id"]
    assert sent.span.kind == KIND.SPAN_KIND_PRODUCER
    assert sent.attributes["messaging.destination.partition.id"] == str(answer.json()["partition"])
    process = found[stack.processing]
    assert (process.service, process.span.kind) == ("fraudstream-detector", KIND.SPAN_KIND_CONSUMER)
    assert found["decide"].span.end_time_unix_nano <= found["send verdicts"].span.end_time_unix_nano
    assert found["send /stream"].service == "fraudstream-api"
    assert collector.authorizations == {"c4n4ry"}
    exported = "".join(str(each.span) for each in collector.spans)
    assert "secret-anna" not in exported
    assert "c4n4ry" not in exported


def test_lines_are_one_trace(stack: Stack, collector: Collector) -> None:
    """However many records a request brings, it has one trace, with few spans."""
    trace_id, headers = context()
    line = '{"source": "anna", "target": "ben", "amount": 5}\n'
    answer = stack.client.post("/transactions", content=line * 300, headers=headers | NDJSON)
    assert answer.json()["accepted"] == 300

    def spans() -> list[Found]:
        return [f for f in collector.spans if f.span.trace_id.hex() == trace_id]

    def decided() -> int:
        counts = [f.attributes for f in spans() if f.name.startswith("process ")]
        return sum(each["messaging.batch.message_count"] for each in counts)

    def sent() -> list[Found]:
        return [f for f in spans() if f.name == stack.sending]

    until(lambda: decided() == 300 and sent())  # each process exports its spans by itself
    (only,) = sent()
    assert only.attributes["messaging.batch.message_count"] == 300
    assert len(spans()) < 100


def test_unsampled_requests_leave_nothing(stack: Stack, collector: Collector) -> None:
    """What its client doesn't trace is not traced, and its records carry no header."""
    unsampled, headers = context(sampled=False)
    body = {"source": "anna", "target": "ben", "amount": "1"}
    stack.client.post("/transactions", json=body, headers=headers | {"Prefer": "wait=20"})
    sampled, headers = context()
    stack.client.post("/transactions", json=body, headers=headers | {"Prefer": "wait=20"})
    until(lambda: collector.trace(sampled).keys() >= stack.expected)
    assert not collector.trace(unsampled)


@pytest.mark.parametrize(
    "value", ["", "00-xyz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + "1" * 50, "é" * 30]
)
def test_malformed_context_is_ignored(stack: Stack, value: str) -> None:
    """A header that names no trace is none: the request is answered as ever."""
    headers = [(b"traceparent", value.encode()), (b"tracestate", b"=,;" * 200)]
    body = {"source": "anna", "target": "ben", "amount": "1"}
    assert stack.client.post("/transactions", json=body, headers=headers).status_code == 202


def test_refusals_are_traced(stack: Stack, collector: Collector) -> None:
    """A request that is refused has its span, with the status and without the body."""
    trace_id, headers = context()
    body = {"source": "canary-anna", "target": "ben", "amount": "-1"}
    assert stack.client.post("/transactions", json=body, headers=headers).status_code == 422
    until(lambda: collector.trace(trace_id))
    (found,) = collector.trace(trace_id).values()
    assert found.attributes["http.response.status_code"] == 422
    assert found.span.status.code == Status.STATUS_CODE_UNSET
    assert "canary-anna" not in str(found.span)


def test_exemplars_name_traces(stack: Stack, collector: Collector) -> None:
    """Who asks for OpenMetrics gets an example of a trace beside the latencies."""
    trace_id, headers = context()
    body = {"source": "anna", "target": "ben", "amount": "1"}
    stack.client.post("/transactions", json=body, headers=headers | {"Prefer": "wait=20"})
    until(lambda: collector.trace(trace_id).keys() >= stack.expected)
    wanted = {"accept": "application/openmetrics-text; version=1.0.0"}
    gateway = stack.client.get("/metrics", headers=wanted)
    assert gateway.headers["content-type"].startswith("application/openmetrics-text")
    assert gateway.text.endswith("# EOF\n")
    lines = [line for line in gateway.text.splitlines() if f'trace_id="{trace_id}"' in line]
    assert {line.partition("_bucket")[0] for line in lines} == {
        "fraudstream_api_request_seconds",
        "fraudstream_stream_delay_seconds",
    }
    detector = httpx.get(stack.detector_metrics, headers=wanted, verify=TRUST).text
    assert f'# {{trace_id="{trace_id}"}}' in detector
    plain = stack.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "trace_id" not in plain.text


def test_nothing_is_loaded_where_nothing_is_traced() -> None:
    """Without a collector neither the SDK is imported nor what makes spans of ours.

    (OpenTelemetry's API is: FastAPI imports it.)
    """
    code = (
        "import sys; from api import app; from api.settings import ApiSettings;"
        "import detector.service; from detector.settings import DetectorSettings;"
        "from wire import tracing;"
        "assert app.create(ApiSettings()).tracing is None;"
        "assert tracing.start(DetectorSettings(), 'detector') is None;"
        "ours = ('api.tracing', 'detector.tracing', 'wire.spans');"
        "print([m for m in sys.modules if m in ours or m.startswith('opentelemetry.sdk')])"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    argv = [sys.executable, "-c", code]
    assert subprocess.run(argv, env=env, capture_output=True, check=True).stdout == b"[]\n"
