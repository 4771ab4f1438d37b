"""`GET /metrics`: the gateway's numbers in Prometheus's form, those of all its processes.

Processes that share one listening socket can't be scraped apart: each scrape would reach another.
So whichever is asked asks the others too, each at an address of its own, and the label `worker`
tells their series apart. (Added up here, the sums would fall when one process starts afresh, and
Prometheus would take that for a new start of them all.)
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar, Sample
from starlette.responses import Response

from api.edge.connections import LIMITS
from api.gateway import Gateway
from api.problems import CROSS_SITE, FORBIDDEN, UNAUTHENTICATED
from api.streams.subscription import Cause
from wire import metrics
from wire.metrics import counter, gauge, histogram

WORKER_PATH: Final = "/metrics/worker"
_FORMS: Final = ("text/plain", "application/openmetrics-text")

_Packed = tuple[str, dict[str, str], float, tuple[dict[str, str], float, float | None] | None]
"""A sample's name, labels, value, and its exemplar's labels, value and time."""
_families = msgspec.json.Decoder(list[tuple[str, str, str, list[_Packed]]])


def routes(gateway: Gateway) -> APIRouter:
    """Make `/metrics`, and `/metrics/worker` for the process that is asked alone."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        summary="The gateway's numbers, for Prometheus",
        response_class=Response,
        responses={200: {"content": {name: {"schema": {"type": "string"}} for name in _FORMS}}},
    )
    async def all_workers(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        body, media_type = metrics.written(await _of_all(gateway, request), accept)
        return Response(body, headers={"Content-Type": media_type, "Vary": "Accept"})

    @router.get(WORKER_PATH, include_in_schema=False)
    async def this_worker() -> Response:
        return Response(_packed(of_worker(gateway)), media_type="application/json")

    return router


async def _of_all(gateway: Gateway, asker: Request) -> list[Metric]:
    others = await gateway.workers.ask(WORKER_PATH, asker)
    answers = [list(of_worker(gateway)), *(_unpacked(each.content) for each in others.answers)]
    return [*_merged(answers), _answering(len(answers))]


def _packed(families: Iterable[Metric]) -> bytes:
    """Write families for another process: to parse Prometheus's text takes ten times longer."""
    return msgspec.json.encode(
        [
            (family.name, family.documentation, family.type, list(map(_pack, family.samples)))
            for family in families
        ]
    )


def _pack(sample: Sample) -> _Packed:
    exemplar = sample.exemplar
    example = exemplar and (dict(exemplar.labels), exemplar.value, exemplar.timestamp)
    return sample.name, dict(sample.labels), sample.value, example  # type: ignore[return-value]


def _unpacked(answer: bytes) -> list[Metric]:
    families = []
    for name, text, kind, samples in _families.decode(answer):
        family = Metric(name, text, kind)
        for sample, labels, value, example in samples:
            exemplar = example and Exemplar(*example)
            family.add_sample(sample, labels, value, exemplar=exemplar)
        families.append(family)
    return families


def _merged(answers: Sequence[Sequence[Metric]]) -> Iterable[Metric]:
    """Put the samples of the same family together: each family may be written once only."""
    families: dict[str, Metric] = {}
    for answer in answers:
        for family in answer:
            known = families.setdefault(family.name, family)
            if known is not family:
                known.samples.extend(family.samples)
    return families.values()


def _answering(workers: int) -> Metric:
    text = "Processes of this gateway whose numbers are in this answer."
    return gauge("fraudstream_api_workers", text, workers)


def of_worker(gateway: Gateway) -> Iterable[Metric]:
    """Give the families of this process, each sample labelled with its number."""
    worker = str(gateway.settings.api_worker)
    of_parts = (
        *_of_ingest(gateway),
        *_of_streams(gateway),
        *_of_gate(gateway),
        _of_limits(gateway),
        *_of_connections(gateway),
    )
    for family in (*of_parts, *metrics.process()):
        family.samples = [
            sample._replace(labels={**sample.labels, "worker": worker}) for sample in family.samples
        ]
        yield family


def _of_ingest(gateway: Gateway) -> Iterable[Metric]:
    ingest = gateway.ingest
    counts, deliveries = ingest.counts, ingest.deliveries
    return (
        counter(
            "fraudstream_api_requests",
            "POST /transactions answered, by HTTP status.",
            {str(status): count for status, count in counts.requests.items()},
            "status",
        ),
        counter(
            "fraudstream_api_problems",
            "POST /transactions answered with a problem, by its code.",
            counts.problems,
            "code",
        ),
        histogram(
            "fraudstream_api_request_seconds",
            "From a POST's header to its answer; `decided` with the wait for the verdict.",
            counts.seconds,
            "outcome",
        ),
        gauge(
            "fraudstream_api_requests_in_flight",
            "POST /transactions under way.",
            counts.requests_in_flight,
        ),
        gauge(
            "fraudstream_api_in_flight_bytes",
            "Records on their way to Kafka.",
            ingest.bytes_in_flight,
        ),
        gauge(
            "fraudstream_api_body_bytes",
            "Bodies under way, and results that are not told yet.",
            ingest.body_bytes_in_flight,
        ),
        counter(
            "fraudstream_api_records_acknowledged",
            "Transactions that Kafka has acknowledged, acks=all.",
            deliveries.records_acknowledged,
        ),
        counter(
            "fraudstream_api_records_failed",
            "Transactions that Kafka has not acknowledged in time, or at all.",
            deliveries.records_failed,
        ),
        histogram(
            "fraudstream_api_produce_seconds",
            "From a record batch's first record to its acknowledgement.",
            deliveries.seconds,
        ),
        histogram(
            "fraudstream_api_produce_batch_records",
            "Records in each acknowledged batch.",
            deliveries.batch_records,
        ),
        gauge("fraudstream_api_ready", "Whether transactions can be taken.", ingest.ready),
    )


def _of_gate(gateway: Gateway) -> Iterable[Metric]:
    if gateway.gate is None:
        return ()
    refused = gateway.gate.refused
    return (
        counter(
            "fraudstream_api_refusals",
            "Requests refused for who sent them, by the problem's code.",
            {kind.code: refused[kind.code] for kind in (UNAUTHENTICATED, FORBIDDEN, CROSS_SITE)},
            "code",
        ),
    )


def _of_limits(gateway: Gateway) -> Metric:
    limits = gateway.limits.refused
    return counter(
        "fraudstream_api_limited",
        "Requests refused because their address or credential was over its rate.",
        {name: limits[name] for name in ("address", "credential", "failure")},
        "policy",
    )


def _of_connections(gateway: Gateway) -> Iterable[Metric]:
    connections, hosts = gateway.connections, gateway.hosts
    return (
        gauge("fraudstream_api_connections", "Open connections.", connections.open),
        counter(
            "fraudstream_api_connections_refused",
            "Connections closed for a bound that they were over, by its setting.",
            {name: connections.refused[name] for name in LIMITS},
            "limit",
        ),
        counter(
            "fraudstream_api_unknown_hosts",
            "Requests refused (421) because their Host is none of the gateway's names.",
            hosts.refused if hosts is not None else 0,
        ),
    )


def _of_streams(gateway: Gateway) -> Iterable[Metric]:
    hub = gateway.hub
    channels = hub.channels
    return (
        gauge(
            "fraudstream_stream_following",
            "Whether both verdict topics are being followed.",
            hub.following,
        ),
        gauge(
            "fraudstream_stream_clients",
            "Open streams.",
            {name: hub.clients[name] for name in channels},
            "stream",
        ),
        counter(
            "fraudstream_stream_events",
            "Live events handed to clients; one event for ten clients counts ten.",
            {name: channel.handed_out for name, channel in channels.items()},
            "stream",
        ),
        counter(
            "fraudstream_stream_ends",
            "Streams that ended; `slow` and `stalled` were let go for falling behind.",
            {cause.value: hub.ended[cause] for cause in Cause},
            "cause",
        ),
        gauge(
            "fraudstream_stream_lag_records",
            "Offsets of the verdict topics not read yet.",
            hub.lag(),
            "topic",
        ),
        histogram(
            "fraudstream_stream_delay_seconds",
            "From the decision on a verdict to its being read for the streams.",
            hub.delay,
        ),
        counter(
            "fraudstream_stream_replays",
            "Turns in which history was read from Kafka for a client.",
            hub.replays.begun,
        ),
        counter(
            "fraudstream_stream_replayed_records",
            "Records read for that.",
            hub.replays.records,
        ),
    )
