"""What a detector counts, in Prometheus's form, served on a port of its own if one is set."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from detector.metrics import Metrics
from detector.settings import DetectorSettings
from wire import metrics as prometheus
from wire.metrics import counter, gauge, histogram

log = structlog.get_logger(__name__)
BEAT_S: Final = 1.0
STUCK_AFTER_S: Final = 15.0
"""An event loop that has not turned for so long has the process counted as not alive."""


@asynccontextmanager
async def serving(metrics: Metrics, settings: DetectorSettings) -> AsyncIterator[None]:
    """Serve the metrics meanwhile, if a port is set.

    /healthz tells only whether the loop turns: a detector that waits for Kafka is healthy, and
    one to which no broker answers for long ends by itself. Of a partition that alone is not
    answered for, the age of its last fetch tells.

    Raises:
        MetricsError: the port can't be had.
    """
    if settings.detector_metrics_port is None:
        yield
        return
    pulse = Pulse()
    host, port = settings.detector_metrics_host, settings.detector_metrics_port
    server = prometheus.serve(Exporter(metrics), pulse.felt, host, port)
    log.info("serving metrics", host=host, port=server.port)
    beating = asyncio.create_task(pulse.beat())
    try:
        yield
    finally:
        beating.cancel()
        server.stop()


class Pulse:
    """When the event loop last turned; read from another thread."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def beat(self) -> None:
        """Note the time again and again, for as long as the loop turns."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(BEAT_S)

    def felt(self) -> bool:
        """Tell whether the loop has turned lately."""
        return time.monotonic() - self._last < STUCK_AFTER_S


class Exporter(Collector):
    """Reads the numbers at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Give all families."""
        yield from self._of_decisions()
        yield from self._of_transactions()
        yield from self._of_partitions()
        yield from prometheus.process()

    def _of_decisions(self) -> Iterable[Metric]:
        m = self._metrics
        yield counter(
            "fraudstream_detector_records",
            "Records read and settled, whatever came of them.",
            m.records,
        )
        yield counter(
            "fraudstream_detector_verdicts",
            "Verdicts committed.",
            {"legit": m.legit, "fraud": m.fraud},
            "decision",
        )
        yield counter(
            "fraudstream_detector_rule_hits",
            "Verdicts in which a rule gave a reason, rules in shadow too.",
            m.rules,
            "rule",
        )
        yield counter(
            "fraudstream_detector_rule_no_answer",
            "Transactions that a rule could not judge; it did not hit them.",
            m.unanswered,
            "rule",
        )
        yield counter(
            "fraudstream_detector_duplicates", "Transactions dropped as sent before.", m.duplicates
        )
        yield counter(
            "fraudstream_detector_dead_letters",
            "Records that were no transaction, put aside.",
            m.dead_letters,
        )

    def _of_transactions(self) -> Iterable[Metric]:
        m = self._metrics
        yield counter(
            "fraudstream_detector_transactions", "Kafka transactions committed.", m.batches
        )
        yield counter(
            "fraudstream_detector_aborts",
            "Kafka transactions rolled back and done again.",
            m.aborts,
        )
        yield counter(
            "fraudstream_detector_fenced", "Partitions lost to a new owner in the midst.", m.fenced
        )
        yield histogram(
            "fraudstream_detector_batch_records", "Records in one transaction.", m.batch_records
        )
        yield histogram(
            "fraudstream_detector_transaction_seconds",
            "From the first decision of a batch to its commit.",
            m.transaction,
        )
        yield histogram(
            "fraudstream_detector_end_to_end_seconds",
            "From the gateway's timestamp on a record to the commit of its verdict.",
            m.end_to_end,
        )

    def _of_partitions(self) -> Iterable[Metric]:
        m = self._metrics
        yield gauge(
            "fraudstream_detector_lag_records",
            "Records behind the log's end, as of the partition's last fetch.",
            m.lag,
            "partition",
        )
        now = time.monotonic()
        yield gauge(
            "fraudstream_detector_fetch_age_seconds",
            "How long no broker has answered for the partition.",
            {partition: now - at for partition, at in m.answered_at.items()},
            "partition",
        )
        yield gauge(
            "fraudstream_detector_window_entries",
            "What the windows remember.",
            m.entries,
            "partition",
        )
        yield counter(
            "fraudstream_detector_window_evicted",
            "What the windows have let go early, for want of room.",
            m.evicted,
            "partition",
        )
        yield counter(
            "fraudstream_detector_rebuilds", "Times that windows were rebuilt.", m.rebuilds
        )
        yield counter(
            "fraudstream_detector_rebuilt_records",
            "Records read to rebuild windows.",
            m.rebuilt_records,
        )
        yield counter(
            "fraudstream_detector_rebuild_seconds",
            "Time spent on rebuilding windows.",
            m.rebuild_seconds,
        )
