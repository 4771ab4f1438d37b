"""The writer: all that comes of a batch, its verdicts, dead letters and offsets, or none of it.

A detector writes all its partitions with one transactional producer. A process that has lost them
is kept out twice. Each partition has a transactional id, GROUP.TOPIC.PARTITION; whoever is given
partitions takes over all their ids, and writes under the first. So the former owner's open
transaction is rolled back at once, under whichever of its partitions it wrote. And offsets are
committed as a member of one generation of the group, which the coordinator checks (KIP-447): no
transaction of a former owner's can end with offsets of partitions that are no longer its own. The
new owner reads the committed offsets only when no open transaction can change them any more.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from detector.batch import Outcome
from detector.errors import AbortedError
from detector.records import RecordBatch, batched
from detector.requests import Membership
from detector.settings import DetectorSettings
from detector.transactions import Transactions
from wire.deadline import deadline


class Writer:
    """Writes each batch in one transaction."""

    def __init__(
        self,
        settings: DetectorSettings,
        client: AIOKafkaClient,
        partitions: Sequence[int],
        membership: Membership,
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._membership = membership
        self._limit_s = settings.detector_deadline_seconds
        self._transactions = Transactions(
            client,
            settings.transactions_topic,
            membership.group,
            written=(settings.legit_topic, settings.fraud_topic, settings.dead_letter_topic),
        )

    async def take_over(self) -> dict[int, int | None]:
        """Fence the former owners, settle what they left open; give the committed offsets then.

        Raises:
            FencedError, AbortedError, StuckError: as in `write`.
        """
        settings = self._settings
        prefix = f"{settings.detector_group}.{settings.transactions_topic}"
        ids = [f"{prefix}.{partition}" for partition in sorted(self._partitions)]
        try:
            async with deadline(self._limit_s, "fencing the former owner"):
                await self._transactions.take(ids, settings.detector_transaction_timeout_ms)
            async with deadline(self._limit_s, "committed offsets"):
                return await self._transactions.stable_offsets(self._partitions)
        except KafkaError as error:
            raise AbortedError(f"can't take over: {error!r}") from error

    async def write(
        self, outcomes: Mapping[int, Outcome], offsets: Mapping[int, int], now_ms: int
    ) -> None:
        """Write all of a batch and the offsets after it, by partition.

        Raises:
            FencedError: the partitions have another owner.
            AbortedError: nothing was written, or it is not known what; `take_over` settles it.
            StuckError: Kafka did not answer within the deadline.
        """
        rows = self._rows(outcomes, now_ms)
        try:
            async with deadline(self._limit_s, "a transaction"):
                # The offsets first: while the coordinator still finishes the last transaction, they
                # are refused at once and asked again; records would be held for 20 ms at a time
                # (the broker's add.partitions.to.txn.retry.backoff.ms).
                await self._transactions.add_offsets(offsets, self._membership)
                # One batch for a partition in a request, so that all of them fit into one.
                for row in rows:
                    await self._transactions.append(row)
                await self._transactions.commit()
        except KafkaError as error:
            raise AbortedError(f"rolled back: {error!r}") from error

    def _rows(
        self, outcomes: Mapping[int, Outcome], now_ms: int
    ) -> list[dict[TopicPartition, RecordBatch]]:
        settings = self._settings
        columns = {
            TopicPartition(topic, partition): batched(
                entries, now_ms, settings.detector_batch_bytes
            )
            for partition, outcome in outcomes.items()
            for topic, entries in (
                (settings.legit_topic, outcome.legit),
                (settings.fraud_topic, outcome.fraud),
                (settings.dead_letter_topic, outcome.dead),
            )
            if entries
        }
        return [
            {place: batch for place, batch in zip(columns, row, strict=True) if batch}
            for row in zip_longest(*columns.values())
        ]
