"""`POST /transactions`: in over HTTP, into Kafka, answered for."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Final

import structlog
from fastapi import APIRouter
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.edge import requestid
from api.edge.limits import Limits
from api.errors import DeliveryError
from api.ingest import answers, batches, bodies, budget, preferences
from api.ingest.answers import Answer
from api.ingest.budget import Budget, Hold
from api.ingest.counts import Counts, Deliveries
from api.ingest.direct import Direct
from api.ingest.failures import invalid, undelivered
from api.ingest.lookup import LookUps
from api.ingest.outbox import Outbox, RecordTrace
from api.ingest.verdicts import Verdicts
from api.masking import Masking, Viewer
from api.problems import BODY_TIMEOUT, INTERNAL, OVERLOADED, TOO_LARGE, Problem
from api.settings import ApiSettings
from api.streams.event import Event
from api.transport import connection_of, is_whole
from api.workers import Workers
from wire.errors import MessageError
from wire.posted import accept

log = structlog.get_logger(__name__)
STOP_MARGIN_S: Final = 0.5
"""What is left of the shutdown grace for writing the last answers."""


class Ingest:
    """Takes transactions in over HTTP."""

    def __init__(self, settings: ApiSettings, limits: Limits, workers: Workers) -> None:
        self.counts = Counts()
        self._settings = settings
        self._limits = limits
        self._topic = settings.transactions_topic.encode()
        self._masking = Masking(settings)
        self._outbox = Outbox(settings)
        self._arrivals = bodies.Arrivals(settings.body_timeout)
        self._budget = Budget(settings.max_body_bytes_in_flight)
        self._verdicts = Verdicts(
            settings.verdict_index_size, settings.verdict_index_bytes, settings.max_verdict_waiters
        )
        self._look_ups = LookUps(settings, self._verdicts, self._masking, workers)
        self.direct = Direct(settings, self._outbox, self._verdicts, self.counts)
        limit = settings.max_requests_in_flight
        # Made once: under overload, to refuse is nearly all that there is to do.
        self._too_many = _Refusal(
            Problem(
                OVERLOADED,
                f"max_requests_in_flight ({limit}) is reached",
                limit="max_requests_in_flight",
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect to Kafka; until that is done, every POST is answered 503."""
        self._outbox.start()
        self._loop = asyncio.get_running_loop()

    def drain(self) -> None:
        """Begin to stop; may be called from a signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_stop)

    async def stop(self) -> None:
        """Take nothing more, and answer everything in flight before the shutdown grace is over."""
        await self._begin_stop()

    def _begin_stop(self) -> asyncio.Task[None]:
        if self._stopping is None:
            self._verdicts.release()
            grace = self._settings.api_shutdown_grace_seconds
            within = max(STOP_MARGIN_S, grace - STOP_MARGIN_S)
            self._arrivals.end(within)
            self._stopping = asyncio.create_task(self._outbox.stop(within), name="stop ingest")
        return self._stopping

    @property
    def ready(self) -> bool:
        """Whether a transaction posted now can be expected to reach Kafka."""
        return self._outbox.ready

    @property
    def failed(self) -> bool:
        """Whether no transaction can be taken any more until the process is started anew."""
        return self._outbox.failed

    @property
    def deliveries(self) -> Deliveries:
        """What was put into Kafka."""
        return self._outbox.deliveries

    def trace_with(self, trace: RecordTrace) -> None:
        """Have the records of traced requests carry their trace."""
        self._outbox.trace = trace

    @property
    def bytes_in_flight(self) -> int:
        """What is on its way to Kafka, as counted against max_bytes_in_flight."""
        return self._outbox.bytes_in_flight

    @property
    def body_bytes_in_flight(self) -> int:
        """What is held of bodies, as counted against max_body_bytes_in_flight."""
        return self._budget.held

    def saw(self, events: Sequence[Event]) -> None:
        """Take in verdicts: a tap for the hub."""
        self._verdicts.saw(events)

    def routes(self) -> APIRouter:
        """Make the routes, look-ups too; POST is a bare ASGI route, described in openapi.py."""
        router = self._look_ups.routes()
        router.routes.append(Route("/transactions", _Endpoint(self), methods=["POST"]))
        return router

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST /transactions (ASGI)."""
        counts = self.counts
        began = time.monotonic()
        if counts.requests_in_flight >= self._settings.max_requests_in_flight:
            counts.refused(OVERLOADED, began)
            await self._too_many.send(scope, send)
            connection = connection_of(scope)
            if connection is not None:
                # A refusal costs half of what a transaction does. A client that asks again at
                # once, against Retry-After, must not keep those from being served that were let in.
                connection.rest(self._settings.overload_rest_seconds)
            return
        counts.requests_in_flight += 1
        try:
            status, headers, body = await self._answer(scope, receive)
        except bodies.Disconnected:
            return
        except Problem as problem:
            await self._refuse(problem, began, scope, receive, send)
        except MessageError as error:
            await self._refuse(invalid(error), began, scope, receive, send)
        except Exception:
            log.exception("posting transactions failed")
            internal = Problem(INTERNAL, "the gateway failed; its log says why")
            await self._refuse(internal, began, scope, receive, send)
        else:
            counts.answered(status, began)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        finally:
            counts.requests_in_flight -= 1

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        settings = self._settings
        content_type = prefer = b""
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-encoding":
                bodies.check_encoding(value)
            elif name == b"prefer":
                prefer = b"%b,%b" % (prefer, value)
        if bodies.form(content_type) == "ndjson":
            with self._budget.hold() as hold:
                return await self._take_lines(scope, receive, hold)
        # A timer costs as much as to validate a transaction, and most bodies come in one piece.
        body = await (self._read(receive) if is_whole(scope) else self._read_in_time(receive))
        if body[:1] != b"{" and bodies.is_array(body):
            with self._budget.hold() as hold:
                hold.add(len(body))  # as it was held a moment ago, while it was read
                results = self._results(scope, hold)
                await batches.take_array(body, results, settings.max_batch_records)
                return await results.answer()
        wait = preferences.wait_seconds(prefer.decode("latin-1")) if prefer else None
        if wait is None:
            return await self._take_one(body)
        viewer = self._masking.viewer(scope)
        return await self._take_one_and_wait(body, min(wait, settings.max_wait_seconds), viewer)

    def _read(self, receive: Receive) -> Awaitable[bytes]:
        return bodies.object_or_array(
            receive,
            self._budget,
            object_bytes=self._settings.max_transaction_bytes,
            array_bytes=self._settings.max_array_bytes,
        )

    async def _read_in_time(self, receive: Receive) -> bytes:
        async with self._arrivals.awaited():
            return await self._read(receive)

    async def _take_one(self, body: bytes) -> Answer:
        record = accept(body)
        try:
            batch, index = self._outbox.put(record.key, record.value)
            await batch.landed()
            offset = batch.offset(index)
        except DeliveryError as error:
            raise undelivered(error, record.transaction_id) from None
        self._verdicts.accepted(record.transaction_id)
        return answers.accepted(record.transaction_id, self._topic, batch.partition, offset)

    async def _take_one_and_wait(self, body: bytes, seconds: int, viewer: Viewer) -> Answer:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        record = accept(body)
        transaction_id = record.transaction_id
        with self._verdicts.expecting(record.key.decode(), transaction_id) as expectation:
            try:
                batch, index = self._outbox.put(record.key, record.value)
                await batch.landed()
                offset = batch.offset(index)
            except DeliveryError as error:
                raise undelivered(error, transaction_id) from None
            self._verdicts.accepted(transaction_id)
            if expectation is None:
                return answers.accepted(transaction_id, self._topic, batch.partition, offset)
            verdict = await expectation.within(until - loop.time())
            # Also its sender's: the id may be of another transaction, to another account.
            verdict = viewer.verdict(verdict) if verdict else None
        place = (transaction_id, self._topic, batch.partition, offset)
        answer = answers.decided(*place, verdict) if verdict else answers.accepted(*place)
        answer.headers.append((b"preference-applied", b"wait=%d" % seconds))
        return answer

    async def _take_lines(self, scope: Scope, receive: Receive, hold: Hold) -> Answer:
        results = self._results(scope, hold)
        try:
            async with self._arrivals.awaited():
                await batches.take_lines(receive, results, self._settings, hold)
        except Problem as problem:
            raise await results.cut_short(problem) from None
        return await results.answer()

    def _results(self, scope: Scope, hold: Hold) -> batches.Results:
        spend = self._limits.spender(scope)
        return batches.Results(self._outbox, self._verdicts, self._settings, hold, spend)

    async def _refuse(
        self, problem: Problem, began: float, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.counts.refused(problem.kind, began)
        if problem.kind in (TOO_LARGE, BODY_TIMEOUT) or problem.extra.get("limit") == budget.LIMIT:
            rest = None if is_whole(scope) else receive
            await bodies.refuse_unread(problem.response(), rest, send)
        else:
            await problem.response()(scope, receive, send)


class _Refusal:
    """A problem written ahead, all but the request's id."""

    def __init__(self, problem: Problem) -> None:
        response = problem.response()
        self._status = response.status_code
        self._headers = [each for each in response.raw_headers if each[0] != b"content-length"]
        self._body = bytes(response.body).removesuffix(b"}")

    async def send(self, scope: Scope, send: Send) -> None:
        of = (requestid.of(scope) or "").encode()
        body = b'%b,"request_id":"%b"}' % (self._body, of)
        headers = [*self._headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Endpoint:
    """The ASGI callable that Starlette's router wants: an object, not a method."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._ingest.post(scope, receive, send)
