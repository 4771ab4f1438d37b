"""One detector process: a member of the group, with a worker for each partition assigned to it.

The group's consumer only says which partitions are ours: it reads nothing (its partitions are
paused). Each worker has a reader and a writer of its own, so that a partition's replay, back-log
or failure is nobody else's, and so that no rebalance callback, which aiokafka runs in a task of
its own (aiokafka #335), shares anything with a read.

Every failure ends the process with a code that is not 0, for the supervisor to start it again:
a fresh start goes through the same few steps as a takeover, and those are tested. Only a fenced
worker ends alone: its partition has another owner, and the group will tell us so. If the group
still holds it ours after a while (the broker timed the transaction out), the process ends too.
"""

import asyncio
import signal
import time
from collections.abc import Iterable

import structlog
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from detector.deadline import deadline
from detector.errors import FencedError, StuckError
from detector.exporter import serving
from detector.metrics import Metrics
from detector.rulesfile import RulesSource
from detector.settings import DetectorSettings
from detector.worker import State, Worker
from wire import kafka, logs, topics
from wire.metrics import MetricsError

log = structlog.get_logger(__name__)


def serve(settings: DetectorSettings) -> int:
    """Run until SIGINT or SIGTERM; give the exit code: 0, or 1 after a failure.

    Raises:
        RulesError: the rules file can't be used.
        MetricsError: the port for metrics can't be had.
    """
    logs.configure(settings, "detector")
    rules = RulesSource(settings.detector_rules)
    try:
        uvloop.run(_serve(settings, rules))
    except (StuckError, KafkaError) as error:
        log.error("detector failed", error=str(error))  # noqa: TRY400 - the cause, in one line
        return 1
    except MetricsError:  # a restart would not help: it is the user's to mend
        raise
    except Exception:  # a supervisor restarts us: this line is what is left of the cause
        log.exception("detector failed")
        return 1
    return 0


async def _serve(settings: DetectorSettings, rules: RulesSource) -> None:
    detector = Detector(settings, rules)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, detector.stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: rules.poll(force=True))
    async with serving(detector.metrics, settings):
        await detector.run()


class Detector(ConsumerRebalanceListener):  # type: ignore[misc] # untyped library
    """The workers of one process, following the group's assignment."""

    def __init__(self, settings: DetectorSettings, rules: RulesSource) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._rules = rules
        self._stop = asyncio.Event()
        self._workers: dict[TopicPartition, tuple[Worker, asyncio.Task[None]]] = {}
        self._kept: dict[TopicPartition, State] = {}
        self._fenced: dict[TopicPartition, float] = {}
        self._member: AIOKafkaConsumer = None

    @property
    def rules_version(self) -> str:
        """The version of the rules in force from the next batch on."""
        return self._rules.rules.version

    def stop(self) -> None:
        """End in order: finish the batches in hand, leave the group."""
        self._stop.set()

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            StuckError: no progress; start afresh.
            KafkaError: Kafka refuses for good.
        """
        stopping = asyncio.create_task(self._stop.wait())
        working = asyncio.create_task(self._work())
        await asyncio.wait((stopping, working), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        working.cancel()
        await asyncio.wait((working,))
        try:
            await self._drain(self._workers)
        finally:
            if self._member is not None:
                await kafka.close(self._member)
        if not working.cancelled():
            working.result()
        log.info("detector stopped", records=self.metrics.records)

    async def _work(self) -> None:
        settings = self._settings
        counts = await topics.wait(settings, *topics.names(settings))
        if len(set(counts.values())) != 1:
            raise StuckError(f"the topics differ in their number of partitions: {counts}")
        self._member = await kafka.start(self._new_member)
        self._member.subscribe([settings.transactions_topic], listener=self)
        tick_ms = int(settings.detector_rules_poll_seconds * 1000)
        while True:
            await self._member.getmany(timeout_ms=tick_ms)  # gives nothing but the group's errors
            self._check()
            self._rules.poll()

    def _new_member(self) -> AIOKafkaConsumer:
        settings = self._settings
        return kafka.consumer(
            settings,
            group_id=settings.detector_group,
            session_timeout_ms=settings.detector_session_timeout_ms,
            heartbeat_interval_ms=settings.detector_heartbeat_ms,
            auto_offset_reset="earliest",  # of no effect: the workers read, from where they say
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish the batches in hand; keep the windows in case the partitions come back."""
        await self._drain(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start a worker for each partition."""
        partitions = sorted(assigned)
        self._member.pause(*partitions)
        log.info("assigned", partitions=[each.partition for each in partitions])
        self._fenced.clear()
        for partition in partitions:
            worker = Worker(
                self._settings,
                partition,
                rules=self._rules,
                committed=self._committed,
                metrics=self.metrics,
                state=self._kept.pop(partition, None),
            )
            task = asyncio.create_task(worker.run(), name=f"worker {partition.partition}")
            self._workers[partition] = worker, task
        self._kept.clear()

    async def _drain(self, partitions: Iterable[TopicPartition]) -> None:
        ended = [self._workers.pop(each) for each in tuple(partitions) if each in self._workers]
        for worker, _ in ended:
            worker.stop()
        if not ended:
            return
        tasks = [task for _, task in ended]
        _, late = await asyncio.wait(tasks, timeout=self._settings.detector_drain_seconds)
        for task in late:  # its next owner fences it
            task.cancel()
        if late:
            log.warning("workers cut off", tasks=[task.get_name() for task in late])
            await asyncio.wait(late, timeout=kafka.STOP_TIMEOUT_S)
        for worker, task in ended:
            self.metrics.forget(worker.partition.partition)
            if worker.state is not None and task not in late:
                self._kept[worker.partition] = worker.state
            if not task.cancelled() and isinstance(task.exception(), Exception):
                log.warning("worker had failed", task=task.get_name(), error=str(task.exception()))

    def _check(self) -> None:
        """Raise what ended a worker, unless that is another worker's taking over."""
        now = time.monotonic()
        for partition, (_, task) in self._workers.items():
            if not task.done():
                continue
            error = task.exception()
            if not isinstance(error, FencedError):
                raise error or StuckError(f"{task.get_name()} ended by itself")
            if partition not in self._fenced:
                log.warning("fenced", partition=partition.partition, error=str(error))
                self.metrics.fenced += 1
            since = self._fenced.setdefault(partition, now)
            if now - since > 2 * self._settings.detector_session_timeout_ms / 1000:
                raise StuckError(f"fenced, but still assigned: partition {partition.partition}")

    async def _committed(self, partition: TopicPartition) -> int | None:
        async with deadline(self._settings.detector_deadline_seconds, "committed offset"):
            offset: int | None = await self._member.committed(partition)
        return offset
