"""A backtest over the log in Kafka: the transactions topic, one partition after the other."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import chain

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from detector.backtest.cursor import Cursor, ends
from detector.backtest.result import Reference, Result
from detector.backtest.settings import BacktestSettings
from detector.backtest.trial import Case, Trial
from detector.backtest.verdicts import SLACK_MS, Verdicts
from detector.batch import read
from detector.errors import BacktestError
from detector.rules import RuleSet
from detector.windows import WindowLimits
from wire import kafka, topics
from wire.deadline import deadline
from wire.errors import MessageError
from wire.kafka import RawClient
from wire.messages import Transaction
from wire.records import Record

Progress = Callable[[int, int], None]
"""Is told how much is read, of how much there is."""


async def run(
    settings: BacktestSettings, result: Result, against: RuleSet | None, progress: Progress
) -> None:
    """Judge all partitions, each from its horizon on.

    Raises:
        BacktestError: Kafka refuses, or does not go on.
        BrokerUnreachableError: there is no broker.
        StuckError: Kafka does not answer.
    """
    names = settings.transactions_topic, settings.legit_topic, settings.fraud_topic
    limit_s = settings.backtest_deadline_seconds
    try:
        client = await kafka.start(lambda: kafka.client(settings, names), patience=limit_s)
        try:
            await _run(client, settings, result, against, progress)
        finally:
            await kafka.close(client)
    except KafkaError as error:
        raise BacktestError(f"kafka: {error}") from error


async def _run(
    client: RawClient,
    settings: BacktestSettings,
    result: Result,
    against: RuleSet | None,
    progress: Progress,
) -> None:
    logs, verdict_ends = await _partitions(client, settings)
    horizon_ms = max(rules.horizon_ms for rules in (result.rules, against) if rules)
    since, until = settings.backtest_since, settings.backtest_until
    async with AsyncExitStack() as stack:
        cursors = []
        for partition, end in logs.items():
            cursors.append(await stack.enter_async_context(Cursor(client, settings, partition)))
            await cursors[-1].span(
                None if since is None else since - horizon_ms,
                # Beyond the range, only to see whose the verdicts are that lie at its edge.
                None if until is None else until + SLACK_MS,
                end,
            )
        total, before = sum(cursor.end - cursor.start for cursor in cursors), 0
        for cursor in cursors:
            async with AsyncExitStack() as inner:
                reading = _Reading(settings, result, against)
                if against is None and settings.backtest_label is None:
                    number = cursor.partition.partition
                    verdicts = Verdicts(client, settings, number, verdict_ends)
                    reading.verdicts = await inner.enter_async_context(verdicts)
                while records := await cursor.read():
                    await reading.take(records)
                    progress(before + cursor.position - cursor.start, total)
                await reading.finish()
            before += cursor.end - cursor.start


async def _partitions(
    client: RawClient, settings: BacktestSettings
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Give where each partition ends: those of the transactions, and those of the verdicts."""
    names = settings.transactions_topic, settings.legit_topic, settings.fraud_topic
    async with deadline(settings.backtest_deadline_seconds, "where the topics are"):
        counts = await topics.wait(settings, *names)
    log, *verdicts = (
        [TopicPartition(name, number) for number in range(counts[name])] for name in names
    )
    # In this order, so that while the log grows each verdict's transaction is in the range.
    verdict_ends = await ends(client, settings, chain(*verdicts))
    return await ends(client, settings, log), verdict_ends


class _Reading:
    """One partition: makes a case of each record."""

    def __init__(self, settings: BacktestSettings, result: Result, against: RuleSet | None) -> None:
        self.verdicts: Verdicts | None = None
        self._label = settings.backtest_label
        self._result = result
        self._trial = Trial(
            result,
            against=against,
            limits=WindowLimits(settings.backtest_window_entries),
            since_ms=settings.backtest_since,
            until_ms=settings.backtest_until,
            expects=settings.backtest_label is None,
        )

    async def take(self, records: list[Record]) -> None:
        trial = self._trial
        for record in records:
            try:
                transaction = read(record.value, record.timestamp)
            except MessageError:
                self._result.refused += trial.first_ms is not None and not trial.over
                continue
            reference = await self._reference(transaction, record.timestamp)
            trial.take(Case(transaction, record.timestamp, reference))
        if self.verdicts is not None and trial.first_ms is not None:
            self.verdicts.tidy(trial.first_ms, trial.last_ms)

    async def finish(self) -> None:
        trial = self._trial
        trial.close()
        if self.verdicts is not None and trial.first_ms is not None:
            await self.verdicts.finish(trial.first_ms, trial.last_ms)
            self._result.extra += self.verdicts.extra

    async def _reference(self, transaction: Transaction, received_ms: int) -> Reference | None:
        if self.verdicts is not None:
            return await self.verdicts.on(transaction, received_ms)
        if self._label is not None:
            return Reference.of_label((transaction.metadata or {}).get(self._label))
        return None
