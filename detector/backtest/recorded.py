"""A backtest over the log in Kafka: the transactions topic, one partition after the other."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from detector.backtest.cursor import Cursor
from detector.backtest.result import Reference, Result
from detector.backtest.settings import BacktestSettings
from detector.backtest.trial import Case, Trial
from detector.backtest.verdicts import Verdicts
from detector.deadline import deadline
from detector.errors import BacktestError
from detector.rules import RuleSet
from detector.windows import WindowLimits
from wire import topics
from wire.errors import MessageError
from wire.messages import Transaction, decode_transaction

Progress = Callable[[int, int], None]
"""Is told how much is read, of how much there is."""


async def run(
    settings: BacktestSettings, result: Result, against: RuleSet | None, progress: Progress
) -> None:
    """Judge all partitions, each from its horizon on.

    Raises:
        BacktestError: Kafka refuses, or does not go on.
        StuckError: Kafka does not answer.
    """
    try:
        await _run(settings, result, against, progress)
    except KafkaError as error:
        raise BacktestError(f"kafka: {error}") from error


async def _run(
    settings: BacktestSettings, result: Result, against: RuleSet | None, progress: Progress
) -> None:
    since = settings.backtest_since
    horizon_ms = max(rules.horizon_ms for rules in (result.rules, against) if rules)
    from_ms = None if since is None else since - horizon_ms
    async with AsyncExitStack() as stack:
        logs = []
        for partition in await _partitions(settings):
            logs.append(await stack.enter_async_context(Cursor(settings, partition)))
            await logs[-1].span(from_ms, settings.backtest_until)
        total, before = sum(log.end - log.start for log in logs), 0
        for log in logs:
            trial = Trial(
                result,
                against=against,
                limits=WindowLimits(settings.backtest_window_entries),
                since_ms=since,
                expects=settings.backtest_label is None,
            )
            async with AsyncExitStack() as inner:
                reading = _Reading(settings, result, trial)
                if against is None and settings.backtest_label is None:
                    verdicts = Verdicts(settings, log.partition.partition)
                    reading.verdicts = await inner.enter_async_context(verdicts)
                while records := await log.read():
                    await reading.take(records)
                    progress(before + log.position - log.start, total)
                await reading.finish()
            before += log.end - log.start


async def _partitions(settings: BacktestSettings) -> list[TopicPartition]:
    topic = settings.transactions_topic
    async with deadline(settings.backtest_deadline_seconds, "where the topics are"):
        counts = await topics.wait(settings, topic, settings.legit_topic, settings.fraud_topic)
    return [TopicPartition(topic, number) for number in range(counts[topic])]


class _Reading:
    """One partition: makes a case of each record."""

    def __init__(self, settings: BacktestSettings, result: Result, trial: Trial) -> None:
        self.verdicts: Verdicts | None = None
        self._label = settings.backtest_label
        self._result = result
        self._trial = trial
        self._newest_ms = 0

    async def take(self, records: list[Any]) -> None:
        for record in records:
            try:
                transaction = decode_transaction(record.value or b"")
            except MessageError:
                self._result.refused += 1
                continue
            self._newest_ms = max(self._newest_ms, record.timestamp)
            reference = await self._reference(transaction, record.timestamp)
            self._trial.take(Case(transaction, record.timestamp, reference))
        if self.verdicts is not None and self._trial.first_ms is not None:
            self.verdicts.tidy(self._trial.first_ms, self._newest_ms)

    async def finish(self) -> None:
        self._trial.close()
        if self.verdicts is not None and self._trial.first_ms is not None:
            await self.verdicts.finish(self._trial.first_ms, self._newest_ms)
            self._result.extra += self.verdicts.extra

    async def _reference(self, transaction: Transaction, received_ms: int) -> Reference | None:
        if self.verdicts is not None:
            return await self.verdicts.on(transaction, received_ms)
        if self._label is not None:
            return Reference.of_label((transaction.metadata or {}).get(self._label))
        return None
