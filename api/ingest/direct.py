"""The direct way in: one transaction whose request came whole, answered without a task.

What is acknowledged together is answered together, in one call from the batch. Only requests that
ask for nothing more are taken, and only if nothing is wrong with them: `Ingest.post` has all
others, and says what is.
"""

import time
from functools import partial
from typing import Final

import structlog

from api.errors import DeliveryError
from api.exchange import Exchange
from api.ingest import answers, bodies
from api.ingest.batch import Batch
from api.ingest.counts import Counts
from api.ingest.failures import undelivered
from api.ingest.outbox import Outbox
from api.ingest.verdicts import Verdicts
from api.settings import ApiSettings
from wire.posted import accept

log = structlog.get_logger(__name__)
_ASKS_MORE: Final = frozenset((b"content-encoding", b"prefer"))


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

    def take(self, exchange: Exchange) -> bool:
        """Take a POST from who may post; False, and nothing done, if it is not for this way."""
        if self._counts.requests_in_flight >= self._most_requests:
            return False
        began = time.monotonic()
        try:
            if not self._is_plain(exchange):
                return False
            record = accept(bytes(exchange.body))
            batch, index = self._outbox.put(record.key, record.value)
        except Exception:  # noqa: BLE001 - nothing was put; the other way meets it again and tells
            return False
        self._counts.requests_in_flight += 1
        batch.watch(partial(self._settled, exchange, record.transaction_id, index, began))
        return True

    def _is_plain(self, exchange: Exchange) -> bool:
        """Tell whether a request brings one object of JSON, and asks for nothing else.

        Raises:
            Problem: it brings what is not taken at all.
        """
        content_type = b""
        for name, value in exchange.scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name in _ASKS_MORE:
                return False
        body = exchange.body
        return (
            body.startswith(b"{")
            and len(body) <= self._most_bytes
            and bodies.form(content_type) == "json"
        )

    def _settled(
        self, exchange: Exchange, transaction_id: str, index: int, began: float, batch: Batch
    ) -> None:
        self._counts.requests_in_flight -= 1
        try:
            self._answer(exchange, transaction_id, index, began, batch)
        except Exception:
            log.exception("answering a transaction failed")
            exchange.transport.abort()  # the others of the batch are answered all the same

    def _answer(
        self, exchange: Exchange, transaction_id: str, index: int, began: float, batch: Batch
    ) -> None:
        try:
            offset = batch.offset(index)
        except DeliveryError as error:
            problem = undelivered(error, transaction_id)
            self._counts.refused(problem.kind, began)
            exchange.refuse(problem)
            return
        self._verdicts.accepted(transaction_id)
        answer = answers.accepted(transaction_id, self._topic, batch.partition, offset)
        self._counts.answered(answer.status, began)
        exchange.answer(*answer)
