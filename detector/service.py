"""One detector process: a member of the group, with a worker for what is assigned to it.

The group's consumer only says which partitions are ours: it reads nothing (its partitions are
paused). Each assignment has a worker of its own, with its own connections, so that no rebalance
callback, which aiokafka runs in a task of its own (aiokafka #335), shares anything with a read.

Every failure ends the process with a code that is not 0, for the supervisor to start it again:
a fresh start goes through the same few steps as a takeover, and those are tested. Only a fenced
worker ends alone: its partitions have another owner, and the group will tell us so. If the group
still holds them ours after a while (the broker timed the transaction out), the process ends too.
"""

import asyncio
import gc
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from detector.errors import FencedError
from detector.exporter import serving
from detector.metrics import Metrics
from detector.requests import Membership
from detector.rulesfile import RulesSource
from detector.settings import DetectorSettings
from detector.states import State
from detector.worker import Worker
from wire import access, kafka, logs, memory, topics, tracing
from wire import audit as audit_log
from wire.errors import AccessError, BrokerUnreachableError, MetricsError, StuckError

if TYPE_CHECKING:
    from detector.tracing import DetectorTracing

log = structlog.get_logger(__name__)
CHECK_EVERY_MS: Final = 1_000
"""Pause between looks whether the worker still works."""
GARBAGE_AFTER: Final = 200_000
"""New objects after which Python looks for unreachable cycles."""


def serve(settings: DetectorSettings) -> int:
    """Run until SIGINT or SIGTERM; give the exit code: 0, or 1 after a failure.

    Raises:
        RulesError: the rules file can't be used.
        AuditError: the audit log can't be written.
        MetricsError: the port for metrics can't be had.
    """
    # Until the rules can be read again, a signal to do so must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logs.configure(settings, "detector")
    audit = audit_log.opened(settings, "detector")
    rules = RulesSource(settings.detector_rules, audit)
    # What lives long is no garbage; and a batch makes many objects, but no cycles of them. Looking
    # for some in the midst of each would take a quarter of the time.
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)
    memory.keep_freed()
    try:
        uvloop.run(_serve(settings, rules))
    except (AccessError, BrokerUnreachableError, StuckError, KafkaError) as error:
        writes = (settings.legit_topic, settings.fraud_topic, settings.dead_letter_topic)
        cause = access.refused(error, settings, writes=writes) or error
        log.error("detector failed", error=str(cause))
        return 1
    except MetricsError:  # a restart would not help: it is the user's to mend
        raise
    except Exception:  # a supervisor restarts us: this line is what is left of the cause
        log.exception("detector failed")
        return 1
    return 0


async def _serve(settings: DetectorSettings, rules: RulesSource) -> None:
    traced = tracing.start(settings, "detector")
    detector = Detector(settings, rules)
    if traced is not None:
        from detector.tracing import DetectorTracing  # noqa: PLC0415 - it loads OpenTelemetry

        detector.tracing = DetectorTracing(traced, settings)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, detector.stop)
    loop.add_signal_handler(signal.SIGHUP, detector.read_rules)
    try:
        async with serving(detector.metrics, settings):
            rules.begin()
            await detector.run()
    finally:
        if traced is not None:
            traced.stop()


class Detector(ConsumerRebalanceListener):  # type: ignore[misc] # untyped library
    """The workers of one process, following the group's assignment."""

    def __init__(self, settings: DetectorSettings, rules: RulesSource) -> None:
        self.metrics = Metrics()
        self.tracing: DetectorTracing | None = None
        self._settings = settings
        self._rules = rules
        self._stop, self._hung_up = asyncio.Event(), asyncio.Event()
        self._working: tuple[Worker, asyncio.Task[None]] | None = None
        self._kept: dict[TopicPartition, State] = {}
        self._fenced_at: float | None = None
        self._failure: Exception | None = None
        """What went wrong in a callback of the group's, which would go on as if nothing had."""
        self._draining = asyncio.Lock()
        self._member: AIOKafkaConsumer = None

    @property
    def rules_version(self) -> str:
        """The version of the rules in force from the next batch on."""
        return self._rules.rules.version

    def stop(self) -> None:
        """End in order: finish the batches in hand, leave the group."""
        self._stop.set()

    def read_rules(self) -> None:
        """Read the rules file, whether or not it seems to have changed."""
        self._hung_up.set()

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            StuckError: no progress; start afresh.
            KafkaError: Kafka refuses for good.
        """
        stopping = asyncio.create_task(self._stop.wait())
        working = asyncio.create_task(self._work())
        following = asyncio.create_task(self._follow_rules())
        tasks = stopping, working, following
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        try:
            await self._drain()
        finally:
            if self._member is not None:
                await kafka.close(self._member)
        for task in (working, following):
            if not task.cancelled():
                task.result()
        log.info("detector stopped", records=self.metrics.records)

    async def _work(self) -> None:
        settings = self._settings
        counts = await topics.wait(settings, *topics.names(settings))
        if len(set(counts.values())) != 1:
            raise StuckError(f"the topics differ in their number of partitions: {counts}")
        self._member = await kafka.start(self._new_member)
        self._member.subscribe([settings.transactions_topic], listener=self)
        while True:
            await self._member.getmany(timeout_ms=CHECK_EVERY_MS)  # gives only the group's errors
            self._check()

    async def _follow_rules(self) -> None:
        """Look whether the rules file has changed, at once when told to.

        In a thread: it takes seconds to read long lists, and the group counts a detector whose
        event loop stands still for so long as dead.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.detector_rules_poll_seconds):
                    await self._hung_up.wait()
            told = self._hung_up.is_set()
            self._hung_up.clear()
            await asyncio.to_thread(self._rules.poll, force=told)

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

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        """Finish the batch in hand; keep the windows in case the partitions come back.

        All of them are revoked in every rebalance: the assignor is no cooperative one.
        """
        try:
            await self._drain()
        except Exception as error:  # noqa: BLE001 - told by `_check`: aiokafka would only log it
            self._failure = error

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start a worker for the partitions."""
        try:
            await self._begin(sorted(assigned))
        except Exception as error:  # noqa: BLE001 - as above; and nobody would be at work
            self._failure = error

    async def _begin(self, places: Sequence[TopicPartition]) -> None:
        self._member.pause(*places)
        log.info("assigned", partitions=[place.partition for place in places])
        await self._drain()
        self._fenced_at = None
        kept, self._kept = self._kept, {}
        if not places or self._stop.is_set():
            return
        group = self._member._coordinator  # noqa: SLF001 - it tells nobody its generation
        worker = Worker(
            self._settings,
            places,
            membership=Membership(self._settings.detector_group, group.generation, group.member_id),
            rules=self._rules,
            metrics=self.metrics,
            states={place: state for place, state in kept.items() if place in places},
            tracing=self.tracing,
        )
        self._working = worker, asyncio.create_task(worker.run(), name="worker")

    async def _drain(self) -> None:
        """Have the worker end, if there is one; also one that is being ended already."""
        async with self._draining:
            if self._working is None:
                return
            (worker, task), self._working = self._working, None
            worker.stop()
            await asyncio.wait((task,), timeout=self._settings.detector_drain_seconds)
            if not task.done():  # the next owner settles what it leaves open
                task.cancel()
                log.warning("worker cut off")
                await asyncio.wait((task,), timeout=kafka.STOP_TIMEOUT_S)
            for place in worker.places:
                self.metrics.forget(place.partition)
            self._kept = worker.states.kept()
            if task.done() and not task.cancelled() and isinstance(task.exception(), Exception):
                log.warning("worker had failed", error=str(task.exception()))

    def _check(self) -> None:
        """Raise what ended the worker, unless that is another one's taking over."""
        if self._failure is not None:
            raise self._failure
        if self._working is None or not self._working[1].done():
            return
        error = self._working[1].exception()
        if not isinstance(error, FencedError):
            raise error or StuckError("the worker ended by itself")
        now = time.monotonic()
        if self._fenced_at is None:
            log.warning("fenced", error=str(error))
            self.metrics.fenced += 1
            self._fenced_at = now
        if now - self._fenced_at > 2 * self._settings.detector_session_timeout_ms / 1000:
            raise StuckError("fenced, but the partitions are still assigned")
