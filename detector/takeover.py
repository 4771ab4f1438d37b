"""Taking a transactional id over: its former owner is fenced, what that left is settled.

An open transaction is rolled back by Kafka itself. One that had ended should need nothing, but
Kafka 4.3.0 to 4.4.0 can leave it half-ended (KAFKA-20734): while it is without leaders, as a lone
broker is for a moment after having been killed, it takes a transaction's partitions for deleted,
writes none of its markers, and calls it complete. Its verdicts and its offset then hang: nobody
sees them, nobody gets at the group's offset, and whatever the same producer ends next, in the same
partitions, decides on them too.

So an id's last transaction is ended once more, as it was: by an empty transaction of the new
producer, with all partitions that the last one can have had and the group's offsets. Where nothing
hangs, that changes nothing.

It goes in two steps, since a former owner must be fenced first and Kafka forgets by that how the
last transaction ended. Who dies, or is cut off, between the two leaves word for the next: in the
last digit of the id's transaction timeout.
"""

from collections.abc import Collection
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.transaction import InitProducerIdRequest

from detector import requests
from detector.coordinators import Ask, Coordinators, error_code
from detector.requests import Producer

_COMMITTED: Final = {
    "Ongoing": False,  # being taken over rolls it back
    "PrepareCommit": True,
    "CompleteCommit": True,
    "PrepareAbort": False,
    "PrepareEpochFence": False,
    "CompleteAbort": False,
}
_FENCED: Final = "Empty"
"""State of an id that was taken over and has not written since."""
_DIGIT: Final[dict[bool | None, int]] = {None: 0, False: 1, True: 2}
_TOLD: Final = {digit: committed for committed, digit in _DIGIT.items()}
_UNKNOWN_ID: Final = 105  # TRANSACTIONAL_ID_NOT_FOUND


async def take_over(
    coordinators: Coordinators,
    transactional_id: str,
    *,
    timeout_ms: int,
    group: str,
    places: Collection[TopicPartition],
) -> Producer:
    """Fence whoever has the id and settle all that was left; give who writes from now on.

    Args:
        coordinators: of the cluster.
        transactional_id: the id.
        timeout_ms: its transactions are open for so long at most, to ten milliseconds.
        group: whose offsets may be in its transactions.
        places: the partitions that may be in its transactions.

    Raises:
        FencedError: somebody else has taken over.
        AbortedError: refused for good.
    """
    last: bool | None = None

    async def fence(mark: bool | None) -> Any:
        digit = _DIGIT[mark]
        request = InitProducerIdRequest(transactional_id, timeout_ms // 10 * 10 - 10 + digit)
        return await coordinators.of_transactions(transactional_id, request)

    async def ask_and_fence() -> Any:
        # Asked anew each time: while it is refused, the last transaction ends one way or the other.
        nonlocal last
        last = await _last(coordinators, transactional_id)
        return await fence(last)

    async def fenced(ask: Ask) -> Producer:
        answer = await coordinators.accepted(ask, lambda _: transactional_id, error_code)
        return Producer(transactional_id, answer.producer_id, answer.producer_epoch)

    producer = await fenced(ask_and_fence)
    if last is None:
        return producer
    await coordinators.add_partitions(producer, places)
    await coordinators.add_group(producer, group)
    await coordinators.end(producer, committed=last)
    return await fenced(lambda: fence(None))  # so that the next need not do so again


async def _last(coordinators: Coordinators, transactional_id: str) -> bool | None:
    """Tell if the id's last transaction was committed; None if it has none to be settled."""
    request = requests.describe(transactional_id)
    try:
        answer = await coordinators.accepted(
            lambda: coordinators.of_transactions(transactional_id, request),
            lambda _: transactional_id,
            lambda it: {each[0] for each in it.transactions} - {_UNKNOWN_ID},
        )
    except IncompatibleBrokerVersion:
        return None  # older than the defect
    ((_, _, state, timeout_ms, *_),) = answer.transactions
    return _TOLD.get(timeout_ms % 10) if state == _FENCED else _COMMITTED.get(state)
