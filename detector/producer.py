"""A transactional producer that does not sleep through what a broker answers in normal running.

Three answers belong to the ordinary course of an older client's transactions (aiokafka speaks the
protocol from before KIP-890), and aiokafka sleeps long on each:

* CONCURRENT_TRANSACTIONS when partitions are added while the coordinator still finishes the last
  transaction: 20 ms (`BACKOFF_OVERRIDE`), or `retry_backoff_ms` (100).
* NOT_ENOUGH_REPLICAS for the first produce to a partition while the broker verifies that the
  partition belongs to the transaction: `retry_backoff_ms`.

Both are over within a millisecond or two. They alone are retried fast here, each time slower in
turn; every other failure, a broker that is down above all, keeps aiokafka's back-off.
"""

from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    CoordinatorNotAvailableError,
    NotEnoughReplicasError,
)
from aiokafka.producer.sender import (
    AddPartitionsToTxnHandler,
    Sender,
    SendProduceReqHandler,
    TxnOffsetCommitHandler,
)

FIRST_PAUSE_S: Final = 0.001
MOST_DOUBLINGS: Final = 10


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
        self._expected = 0

    def pause(self, longest: float) -> float:
        """Give the next pause of an expected retry, in seconds, at most `longest`."""
        self._expected += 1
        doublings = min(self._expected - 1, MOST_DOUBLINGS)
        return min(longest, FIRST_PAUSE_S * float(2**doublings))

    def went_well(self) -> None:
        """Let the next expected retry begin with the shortest pause again."""
        self._expected = 0

    async def _do_add_partitions_to_txn(self, partitions: set[TopicPartition]) -> Any:
        node = await self._find_coordinator(
            CoordinationType.TRANSACTION, self._txn_manager.transactional_id
        )
        return await _AddPartitions(self, partitions).do(node)

    async def _do_txn_offset_commit(self, offsets: dict[TopicPartition, Any], group: str) -> None:
        node = await self._find_coordinator(CoordinationType.GROUP, group)
        await _CommitOffsets(self, offsets, group).do(node)

    async def _send_produce_req(self, node: int, batches: dict[TopicPartition, Any]) -> None:
        await _Produce(self, batches).do(node)
        self._in_flight.remove(node)
        self._muted_partitions.difference_update(batches)


class _AddPartitions(AddPartitionsToTxnHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> float | None:
        pause: float | None = super().handle_response(response)
        if pause is None:
            self._sender.went_well()
            return None
        codes = {code for _, partitions in response.errors for _, code in partitions}
        return self._sender.pause(pause) if ConcurrentTransactions.errno in codes else pause


class _CommitOffsets(TxnOffsetCommitHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> float | None:
        pause: float | None = super().handle_response(response)
        if pause is None:
            self._sender.went_well()
            return None
        codes = {code for _, partitions in response.errors for _, code in partitions}
        expected = CoordinatorNotAvailableError.errno in codes
        return float(self._sender.pause(pause)) if expected else pause


class _Produce(SendProduceReqHandler):  # type: ignore[misc]
    def handle_response(self, response: Any) -> None:
        super().handle_response(response)
        codes = {entry[1] for _, partitions in response.topics for entry in partitions}
        if NotEnoughReplicasError.errno in codes:
            self._default_backoff: float = self._sender.pause(self._default_backoff)
        else:
            self._sender.went_well()
