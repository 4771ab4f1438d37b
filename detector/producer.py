"""A transactional producer with few round trips, that sleeps little on what is to be expected.

aiokafka speaks the transactions from before KIP-890. Where the cluster has version 2 switched on
(every new cluster since Kafka 4.0), this producer speaks that (protocol.py); elsewhere, aiokafka's.

In both, some answers belong to the ordinary course of things, and aiokafka sleeps 20 or 100 ms on
each (`BACKOFF_OVERRIDE`, `retry_backoff_ms`) where a millisecond or two would do:

* CONCURRENT_TRANSACTIONS: the coordinator still finishes the last transaction.
* NOT_ENOUGH_REPLICAS to a produce, COORDINATOR_NOT_AVAILABLE to offsets: the broker still verifies
  that the partition belongs to an older client's transaction.

They alone are retried fast here, each time slower in turn; every other failure, a broker that is
down above all, keeps aiokafka's back-off.
"""

from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorNotAvailableError,
    KafkaError,
    NotEnoughReplicasError,
    ProducerFenced,
)
from aiokafka.producer.sender import (
    AddPartitionsToTxnHandler,
    EndTxnHandler,
    Sender,
    SendProduceReqHandler,
    TxnOffsetCommitHandler,
)
from aiokafka.producer.transaction_manager import PidAndEpoch

from detector import protocol

FIRST_PAUSE_S: Final = 0.001
MOST_DOUBLINGS: Final = 10
EXPECTED: Final = {
    ConcurrentTransactions.errno,
    CoordinatorNotAvailableError.errno,
    NotEnoughReplicasError.errno,
}


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc] # untyped library
    """aiokafka's producer with the sender below."""

    def __init__(self, *, retry_backoff_ms: int = 100, **options: Any) -> None:
        super().__init__(retry_backoff_ms=retry_backoff_ms, **options)
        self._sender = _Sender(
            self.client,
            acks=-1,
            txn_manager=self._txn_manager,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=retry_backoff_ms,
            request_timeout_ms=self._request_timeout_ms,
        )

    @property
    def broken(self) -> bool:
        """True once a failure has ended this producer for good: it can't even roll back."""
        state: bool = self._txn_manager.is_fatal_error()
        return state


class _Sender(Sender):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.version_2 = False
        self._expected = 0

    async def start(self) -> None:
        self.version_2 = await protocol.speaks_version_2(self.client)
        await super().start()

    def versioned(self, request: Any) -> Any:
        """Give the request in the version that the cluster's transactions want."""
        return protocol.Version2(request) if self.version_2 else request

    def give_up(self) -> None:
        """Have the transaction rolled back: the broker says that nothing else is possible."""
        self._txn_manager.error_transaction(KafkaError("the broker can only roll back"))

    def pause(self, longest: float, codes: set[int]) -> float:
        """Give the pause before a retry, in seconds: short and growing if it was to be expected."""
        if not codes & EXPECTED:
            return longest
        pause = FIRST_PAUSE_S * float(2 ** min(self._expected, MOST_DOUBLINGS))
        self._expected += 1
        return min(longest, pause)

    def went_well(self) -> None:
        """Let the next expected retry begin with the shortest pause again."""
        self._expected = 0

    def renew(self, producer_id: int, epoch: int) -> None:
        """Take the id and epoch for the next transaction; its records are counted from 0."""
        transaction = self._txn_manager
        transaction._pid_and_epoch = PidAndEpoch(producer_id, epoch)  # noqa: SLF001 - it has no
        transaction._sequence_numbers.clear()  # noqa: SLF001 - way to say so

    def _maybe_do_transactional_request(self) -> Any:
        if self.version_2:  # the broker adds them by itself
            transaction = self._txn_manager
            for partition in tuple(transaction.partitions_to_add()):
                transaction.partition_added(partition)
            group = transaction.consumer_group_to_add()
            if group is not None:
                transaction.consumer_group_added(group)
        return super()._maybe_do_transactional_request()

    async def _do_add_partitions_to_txn(self, partitions: set[TopicPartition]) -> Any:
        return await _AddPartitions(self, partitions).do(await self._transaction_coordinator())

    async def _do_txn_offset_commit(self, offsets: dict[TopicPartition, Any], group: str) -> None:
        node = await self._find_coordinator(CoordinationType.GROUP, group)
        await _CommitOffsets(self, offsets, group).do(node)

    async def _send_produce_req(self, node: int, batches: dict[TopicPartition, Any]) -> None:
        await _Produce(self, batches).do(node)
        self._in_flight.remove(node)
        self._muted_partitions.difference_update(batches)

    async def _do_txn_commit(self, result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
        else:
            await _EndTransaction(self, result).do(await self._transaction_coordinator())

    async def _transaction_coordinator(self) -> int:
        node: int = await self._find_coordinator(
            CoordinationType.TRANSACTION, self._txn_manager.transactional_id
        )
        return node


class _AddPartitions(AddPartitionsToTxnHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> float | None:
        pause: float | None = super().handle_response(response)
        if pause is None:
            self._sender.went_well()
            return None
        return float(self._sender.pause(pause, _codes(response.errors)))


class _CommitOffsets(TxnOffsetCommitHandler):  # type: ignore[misc]
    def create_request(self) -> Any:
        return self._sender.versioned(super().create_request())

    def handle_response(self, response: Any) -> float | None:
        codes = _codes(response.errors)
        if protocol.PRODUCER_FENCED in codes:
            raise ProducerFenced
        if protocol.TRANSACTION_ABORTABLE in codes:
            self._sender.give_up()
            return None
        concurrent = ConcurrentTransactions.errno in codes  # aiokafka expects it not here
        pause = self._default_backoff if concurrent else super().handle_response(response)
        if pause is None:
            self._sender.went_well()
            return None
        return float(self._sender.pause(pause, codes))


class _Produce(SendProduceReqHandler):  # type: ignore[misc]
    def create_request(self) -> Any:
        return self._sender.versioned(super().create_request())

    def handle_response(self, response: Any) -> None:
        super().handle_response(response)
        if self._to_reenqueue:
            codes = _codes(response.topics)
            self._default_backoff: float = self._sender.pause(self._default_backoff, codes)
        else:
            self._sender.went_well()

    def _can_retry(self, error: KafkaError, batch: Any) -> bool:
        return isinstance(error, ConcurrentTransactions) or super()._can_retry(error, batch)


class _EndTransaction(EndTxnHandler):  # type: ignore[misc]
    def create_request(self) -> Any:
        return self._sender.versioned(super().create_request())

    def handle_response(self, response: Any) -> float | None:
        if response.error_code == protocol.PRODUCER_FENCED:
            raise ProducerFenced
        if not response.error_code and self._sender.version_2:
            self._sender.renew(response.producer_id, response.producer_epoch)
        pause = super().handle_response(response)
        return None if pause is None else self._sender.pause(pause, {response.error_code})


def _codes(topics: Any) -> set[int]:
    return {entry[1] for _, partitions in topics for entry in partitions}
