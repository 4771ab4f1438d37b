"""POST /transactions: each record validated, put into Kafka, and answered for."""

from typing import Final

import structlog
from fastapi import APIRouter
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api import answers, bodies
from api.answers import Headers
from api.counts import Counts
from api.errors import (
    DeliveryError,
    NotAcknowledgedError,
    OverloadedError,
    ShuttingDownError,
    UnreachableError,
)
from api.outbox import Outbox
from api.problems import (
    INTERNAL,
    INVALID_TRANSACTION,
    KAFKA_UNAVAILABLE,
    NOT_ACKNOWLEDGED,
    NOT_JSON,
    OVERLOADED,
    SHUTTING_DOWN,
    UNSUPPORTED_MEDIA_TYPE,
    Kind,
    Problem,
)
from api.settings import ApiSettings
from wire.errors import MessageError
from wire.messages import accept

log = structlog.get_logger(__name__)
STOP_MARGIN_S: Final = 0.5
"""What is left of the shutdown grace for writing the last answers."""
_KINDS: Final[dict[type[DeliveryError], Kind]] = {
    OverloadedError: OVERLOADED,
    UnreachableError: KAFKA_UNAVAILABLE,
    ShuttingDownError: SHUTTING_DOWN,
    NotAcknowledgedError: NOT_ACKNOWLEDGED,
}


class Ingest:
    """Takes transactions in over HTTP."""

    def __init__(self, settings: ApiSettings) -> None:
        self.counts = Counts()
        self._settings = settings
        self._topic = settings.transactions_topic.encode()
        self._outbox: Outbox | None = None

    async def start(self) -> None:
        """Begin to connect to Kafka; until that is done, every POST is answered 503."""
        self._outbox = Outbox(self._settings)
        self._outbox.start()

    async def stop(self) -> None:
        """Take nothing more, and answer everything in flight before the shutdown grace is over."""
        if self._outbox is not None:
            grace = self._settings.api_shutdown_grace_seconds
            await self._outbox.stop(max(STOP_MARGIN_S, grace - STOP_MARGIN_S))

    @property
    def ready(self) -> bool:
        """Whether a transaction posted now can be expected to reach Kafka."""
        return self._outbox is not None and self._outbox.ready

    def routes(self) -> APIRouter:
        """Make the routes; POST is a bare ASGI route, described in schemas.py."""
        router = APIRouter()
        router.routes.append(Route("/transactions", _Endpoint(self), methods=["POST"]))
        return router

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST /transactions (ASGI)."""
        counts = self.counts
        counts.requests_in_flight += 1
        try:
            status, headers, body = await self._answer(scope, receive)
        except bodies.Disconnected:
            return
        except Problem as problem:
            await self._refuse(problem, scope, receive, send)
        except MessageError as error:
            await self._refuse(_invalid(error), scope, receive, send)
        except Exception:
            log.exception("posting a transaction failed")
            internal = Problem(INTERNAL, "the gateway failed; its log says why")
            await self._refuse(internal, scope, receive, send)
        else:
            counts.requests[status] += 1
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        finally:
            counts.requests_in_flight -= 1

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        if self.counts.requests_in_flight > self._settings.max_requests_in_flight:
            limit = self._settings.max_requests_in_flight
            raise Problem(OVERLOADED, f"max_requests_in_flight ({limit}) is reached")
        content_type = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-encoding":
                bodies.check_encoding(value)
        if bodies.form(content_type) == "ndjson":
            raise Problem(UNSUPPORTED_MEDIA_TYPE, "not yet")
        async with bodies.deadline(self._settings.body_timeout):
            body = await bodies.object_or_array(
                receive,
                object_bytes=self._settings.max_transaction_bytes,
                array_bytes=self._settings.max_array_bytes,
            )
        return await self._take_one(body)

    async def _take_one(self, body: bytes) -> tuple[int, Headers, bytes]:
        record = accept(body)
        try:
            assert self._outbox is not None  # noqa: S101 - routes are served after start()
            batch, index = self._outbox.put(record.key, record.value)
            offset = index + await batch.outcome()
        except DeliveryError as error:
            raise _undelivered(error, record.transaction_id) from None
        headers, answer = answers.accepted(
            record.transaction_id, self._topic, batch.partition, offset
        )
        return 202, headers, answer

    async def _refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        self.counts.requests[problem.kind.status] += 1
        self.counts.problems[problem.kind.code] += 1
        await problem.response()(scope, receive, send)


class _Endpoint:
    """The ASGI callable that Starlette's router wants: an object, not a method."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._ingest.post(scope, receive, send)


def _invalid(error: MessageError) -> Problem:
    kind = INVALID_TRANSACTION if error.is_json else NOT_JSON
    return Problem(kind, error.detail, errors=error.errors)


def _undelivered(error: DeliveryError, transaction_id: str) -> Problem:
    return Problem(_KINDS[type(error)], str(error), transaction_id=transaction_id)
