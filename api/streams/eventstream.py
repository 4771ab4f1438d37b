"""The response that is a stream: sse-starlette's, fed from a subscription.

sse-starlette writes the headers, answers HEAD, encodes, notices that a client went away or that the
server shuts down. Two things are done otherwise, for the sake of thousands:

1. Its response runs four tasks in a group, which comes to 51 KB for an idle client; here its parts
   run in two tasks, 25 KB: heartbeats and the wait for shutdown are one each for all streams.
2. A subscription stands between: it bounds what waits for a client, and reaches the connection
   to write one chunk to all, or to cut off a client that doesn't read (api.transport).

And a send that takes too long ends the stream from outside, as whatever else does: sse-starlette
ends the subscription first and says why afterwards, which is too late to be counted.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import Final

import structlog
from sse_starlette import EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

from api.access.principal import PRINCIPAL
from api.edge.clients import Client
from api.streams import sse
from api.streams.admission import Admission
from api.streams.catchup import Catchup, Wish
from api.streams.hub import Hub
from api.streams.subscription import Cause, Subscription
from api.transport import connection_of
from wire.audit import Audit, Event

log = structlog.get_logger(__name__)

HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store", "Vary": "Accept"}
"""Beside sse-starlette's own, X-Accel-Buffering: no among them."""
RETRY_SPREAD: Final = (0.75, 1.25)
"""Each client gets its own pause: those that lose their gateway together come back apart."""


class EventStream(EventSourceResponse):
    """One client's stream."""

    def __init__(
        self,
        hub: Hub,
        admission: Admission,
        wish: Wish,
        client: Client,
        audit: Audit,
    ) -> None:
        settings = hub.settings
        super().__init__(
            self._chunks(),
            headers=HEADERS,
            sep=sse.SEPARATOR,
            ping=0,
            client_close_handler_callable=self._client_gone,
        )
        self._hub = hub
        self._replays = hub.replays
        self._admission = admission
        self._wish = wish
        self._client = client
        self._audit = audit
        self._member = Subscription(settings.stream_queue_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream (ASGI).

        Raises:
            Problem: there are too many; nothing was sent then.
        """
        client, only = self._client, self._wish.only
        if scope["method"] == "HEAD":
            self._admission.check(client, only)
            await super().__call__(scope, receive, send)
            return
        with self._admission.admitted(client, only):
            await self._stream(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._hub.drain_after(self._listen_for_exit_signal)
        if connection := connection_of(scope):
            connection.bound(self._hub.settings.stream_socket_bytes)
            self._member.connection = connection
        self._member.principal = scope.get(PRINCIPAL)
        listening = asyncio.create_task(self._listen_for_disconnect(receive))
        try:
            await self._stream_response(partial(self._send_in_time, send))
        finally:
            listening.cancel()

    async def _send_in_time(self, send: Send, message: Message) -> None:
        """Send a part (ASGI); cut off a client that takes nothing for too long."""
        try:
            async with asyncio.timeout(self._hub.settings.stream_stall_seconds):
                await send(message)
        except TimeoutError:
            self._member.cut(Cause.STALLED)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        hub, wish, member = self._hub, self._wish, self._member
        began = time.monotonic()
        self._record(Event.STREAM_OPENED)
        hub.enter(member, wish.stream)
        catching_up = asyncio.create_task(self._catch_up())
        try:
            yield sse.retry(int(hub.settings.stream_retry_ms * random.uniform(*RETRY_SPREAD)))  # noqa: S311
            while chunk := await member.take():
                yield chunk
        finally:
            catching_up.cancel()
            hub.leave(member, wish.stream, wish.only)
            seconds = round(time.monotonic() - began, 3)
            cause = member.cause or Cause.CLIENT
            self._record(Event.STREAM_CLOSED, seconds=seconds, cause=cause.value)

    def _record(self, event: Event, **fields: object) -> None:
        wish, client = self._wish, self._client
        self._audit.record(
            event,
            principal=client.credential,
            address=client.address,
            stream=wish.stream,
            filters=list(wish.only.names) if wish.only else None,
            **fields,
        )

    async def _catch_up(self) -> None:
        done = False
        try:
            await Catchup(self._hub, self._replays, self._wish, self._member).run()
            done = True
        except Exception:
            log.exception("stream broke", stream=self._wish.stream)
        finally:
            # Also when aiokafka lets a cancellation of its own out: a client must not be left with
            # heartbeats and no verdicts.
            if not done and self._member.cause is None:
                self._member.cut(Cause.BROKEN)

    async def _client_gone(self, _message: Message) -> None:
        self._member.close(Cause.CLIENT)
