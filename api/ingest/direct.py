"""The direct way in: one transaction whose request came whole, answered without a task.

What is acknowledged together is answered together, in one call from the batch. Only requests that
ask for nothing more are taken, and only if nothing is wrong with them: `Ingest.post` has all
others, and says what is.
"""

import time
from typing import Final

import structlog

from api.errors import DeliveryError
from api.exchange import Exchange, Headers
from api.ingest import answers, bodies
from api.ingest.batch import Batch
from api.ingest.counts import Counts
from api.ingest.failures import undelivered
from api.ingest.outbox import Outbox
from api.ingest.verdicts import Verdicts
from api.problems import Problem
from api.settings import ApiSettings
from wire.posted import accept

log = structlog.get_logger(__name__)
_ASKS_MORE: Final = frozenset((b"content-encoding", b"prefer"))
ACCEPTED: Final = 202

_Taken = tuple[Exchange, str, int, float]
"""Whom to answer, the transaction's id, its place in the batch, and when the request came."""


def is_plain(headers: Headers) -> bool:
    """Tell by its headers whether a request brings JSON, and asks for nothing else."""
    content_type = b""
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name in _ASKS_MORE:
            return False
    try:
        return bodies.form(content_type) == "json"
    except Problem:  # the other way meets it again and tells
        return False


class Direct:
    """Takes single transactions in, and answers them."""

    def __init__(
        self, settings: ApiSettings, outbox: Outbox, verdicts: Verdicts, counts: Counts
    ) -> None:
        self._outbox = outbox
        self._verdicts = verdicts
        self._counts = counts
        self._topic = settings.transactions_topic.encode()
        self._most_bytes = settings.max_transaction_bytes
        self._most_requests = settings.max_requests_in_flight
        self._taken: dict[Batch, list[_Taken]] = {}
        """What of each batch that is not settled yet came this way."""

    def take(self, exchange: Exchange) -> bool:
        """Take a POST whose headers are plain; False, and nothing done, if it is not for this way.

        Who posts may do so.
        """
        body = exchange.body
        counts = self._counts
        if (
            counts.requests_in_flight >= self._most_requests
            or not body.startswith(b"{")
            or len(body) > self._most_bytes
        ):
            return False
        began = time.monotonic()
        try:
            record = accept(bytes(body))
            batch, index = self._outbox.put(record.key, record.value)
        except Exception:  # noqa: BLE001 - nothing was put; the other way meets it again and tells
            return False
        counts.requests_in_flight += 1
        taken = self._taken.get(batch)
        if taken is None:
            taken = self._taken[batch] = []
            batch.watch(self._settled)
        taken.append((exchange, record.transaction_id, index, began))
        return True

    def _settled(self, batch: Batch) -> None:
        taken = self._taken.pop(batch)
        self._counts.requests_in_flight -= len(taken)
        if batch.error is None:
            self._verdicts.accepted_all([transaction_id for _, transaction_id, _, _ in taken])
            self._counts.answered_together(ACCEPTED, [began for _, _, _, began in taken])
        for each in taken:
            try:
                self._answer(each, batch)
            except Exception:
                log.exception("answering a transaction failed")
                each[0].transport.abort()  # the others are answered all the same

    def _answer(self, taken: _Taken, batch: Batch) -> None:
        exchange, transaction_id, index, began = taken
        try:
            offset = batch.offset(index)
        except DeliveryError as error:
            problem = undelivered(error, transaction_id)
            self._counts.refused(problem.kind, began)
            exchange.refuse(problem)
            return
        place = (self._topic, batch.partition, offset)
        exchange.answer_written(*answers.accepted_written(transaction_id, *place))
