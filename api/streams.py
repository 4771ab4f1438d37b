"""`GET /stream/{fraud,legit,all}`: verdicts as server-sent events, or a page for a browser."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api import filters, pages, sse
from api.catchup import Catchup, Wish
from api.errors import PositionError
from api.hub import Hub
from api.position import STREAMS, Position, decode
from api.problems import BAD_FILTER, BAD_POSITION, OVERLOADED, SHUTTING_DOWN, TOO_MANY, Problem
from api.protocol import connection_of
from api.replay import Replays
from api.settings import ApiSettings
from api.subscription import Cause, Subscription

log = structlog.get_logger(__name__)

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "Vary": "Accept",
}
MAX_UNIX_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_UNIX_MS: Final = re.compile(r"\d{1,15}", re.ASCII)
_SUMMARIES: Final = {
    "fraud": "Verdicts that say fraud",
    "legit": "Verdicts that say legit",
    "all": "All verdicts",
}
_DESCRIPTION: Final = """\
One unnamed event for each verdict; its `id` is the position of the whole stream. A client that
sends its last id back (`Last-Event-ID`, as `EventSource` does by itself) goes on right after it:
nothing lost, nothing twice, on any gateway process. Where the wanted history is gone, an event
named `gap` says what is missing, and the stream goes on. A client that reads more slowly than
the stream flows is disconnected, and resumes.

A browser that navigates here (`Accept: text/html`) gets a page instead.
"""


class Streams:
    """The open streams of one process, and what limits them."""

    def __init__(self, hub: Hub, settings: ApiSettings) -> None:
        self.hub = hub
        self.settings = settings
        self.replays = Replays(settings)
        self._addresses: Counter[str] = Counter()
        self._filters: Counter[filters.Filter] = Counter()

    def admit(self, address: str, only: filters.Filter | None) -> None:
        """Refuse a client that is over a limit.

        Raises:
            Problem: 429 or 503, with Retry-After.
        """
        settings = self.settings
        if self.hub.draining:
            raise Problem(SHUTTING_DOWN, "open the stream again in a moment")
        if self._addresses[address] >= settings.stream_clients_per_address:
            limit = settings.stream_clients_per_address
            raise Problem(TOO_MANY, f"this address has {limit} open streams, the most it may have")
        if self._addresses.total() >= settings.stream_clients:
            raise Problem(OVERLOADED, f"all {settings.stream_clients} streams are taken")
        if only and only not in self._filters and len(self._filters) >= settings.stream_filters:
            raise Problem(OVERLOADED, f"{settings.stream_filters} different filters are in use")

    def enter(self, address: str, only: filters.Filter | None) -> None:
        """Count a client in."""
        self._addresses[address] += 1
        if only:
            self._filters[only] += 1

    def leave(self, address: str, only: filters.Filter | None) -> None:
        """Count a client out."""
        _count_down(self._addresses, address)
        if only:
            _count_down(self._filters, only)


class EventStream(Response):
    """The response: sends what its subscription is given, until one side ends it.

    One task sends, one waits for the client to go away; sse-starlette's response runs four, and
    its timeout fires only after some megabytes have been taken by a client that doesn't read.
    """

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, wish: Wish, address: str) -> None:
        super().__init__(headers=dict(HEADERS))
        del self.headers["content-length"]
        self._streams = streams
        self._wish = wish
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream (ASGI)."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        settings = self._streams.settings
        member = Subscription(settings.stream_queue_bytes, connection_of(scope))
        # Each client gets its own pause: those that lose their gateway together come back apart.
        member.offer(sse.retry(int(settings.stream_retry_ms * random.uniform(0.75, 1.25))))  # noqa: S311
        self._streams.enter(self._address, self._wish.only)
        self._streams.hub.enter(member, self._wish.stream)
        work = {
            asyncio.create_task(_until_gone(receive, member)),
            asyncio.create_task(self._catch_up(member)),
        }
        try:
            while chunk := await member.take():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            for task in work:
                task.cancel()
            self._streams.hub.leave(member, self._wish.stream, self._wish.only)
            self._streams.leave(self._address, self._wish.only)

    async def _catch_up(self, member: Subscription) -> None:
        streams = self._streams
        try:
            await Catchup(streams.hub, streams.replays, self._wish, member).run()
        except Exception as error:
            log.exception("stream broke", stream=self._wish.stream, error=repr(error))
            member.cut(Cause.BROKEN)


async def _until_gone(receive: Receive, member: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    member.close(Cause.CLIENT)


def routes(hub: Hub, settings: ApiSettings) -> APIRouter:
    """Make the three streams."""
    router = APIRouter(tags=["streams"])
    streams = Streams(hub, settings)
    for name in STREAMS:
        _add(router, streams, name)
    return router


def _add(router: APIRouter, streams: Streams, name: str) -> None:
    async def stream(
        request: Request,
        *,
        last_event_id: Annotated[
            str | None, Query(description="the `Last-Event-ID` header, for tools; the header wins")
        ] = None,
        since: Annotated[
            str | None,
            Query(description="RFC 3339 time, Unix time in ms, or `earliest`; an id wins over it"),
        ] = None,
        min_amount: Annotated[
            str | None, Query(description="only amounts from this on", examples=["900.01"])
        ] = None,
        account: Annotated[str | None, Query(description="only with this source or target")] = None,
        currency: Annotated[
            str | None, Query(description="only in this currency", examples=["EUR"])
        ] = None,
        rule: Annotated[str | None, Query(description="only where this rule spoke")] = None,
    ) -> Response:
        if wants_page(request.headers.get("accept", "")):
            return pages.stream_page(request, name)
        only, errors = filters.parse(min_amount, account, currency, rule)
        if errors:
            raise Problem(BAD_FILTER, "a filter is malformed", errors=errors)
        at = request.headers.get("last-event-id") or last_event_id
        position = _position(at, name) if at else None
        start = _since(since) if since and position is None else None
        wish = Wish(name, only, position, start)
        address = request.client.host if request.client else ""
        streams.admit(address, only)
        return EventStream(streams, wish, address)

    path = f"/stream/{name}"
    router.add_api_route(
        path,
        stream,
        methods=["GET"],
        operation_id=f"stream_{name}",
        summary=_SUMMARIES[name],
        description=_DESCRIPTION,
        response_class=Response,
        responses=_documented(),
    )
    router.add_api_route(path, stream, methods=["HEAD"], include_in_schema=False)
    router.add_api_route(path, _options, methods=["OPTIONS"], include_in_schema=False)


async def _options() -> Response:
    return Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS"})


def wants_page(accept: str) -> bool:
    """Tell whether a client would rather have HTML than the raw stream (RFC 9110, 12.5.1).

    Only one that names text/html does: `*/*` is what tools send.
    """
    quality = {"text/html": 0.0, "text/event-stream": 0.0}
    for part in accept.lower().split(","):
        media_type, _, parameters = part.partition(";")
        if (media_type := media_type.strip()) in quality:
            found = re.search(r"(?:^|;)\s*q=([\d.]+)", parameters)
            try:
                quality[media_type] = float(found[1]) if found else 1.0
            except ValueError:
                quality[media_type] = 0.0
    return quality["text/html"] > quality["text/event-stream"]


def _position(text: str, stream: str) -> Position:
    """Read an id; one of another stream will do if it covers this one's topics (`all` does)."""
    try:
        position = decode(text)
    except PositionError as error:
        raise Problem(BAD_POSITION, f"the id is no position: {error}") from error
    if not set(STREAMS[stream]) <= position.vectors.keys():
        raise Problem(BAD_POSITION, f"the id is a position of another stream than {stream}")
    return position


def _since(text: str) -> int | Literal["earliest"]:
    if text == "earliest":
        return "earliest"
    if _UNIX_MS.fullmatch(text) and int(text) <= MAX_UNIX_MS:
        return int(text)
    if _RFC3339.fullmatch(text):
        try:
            return max(0, int(datetime.fromisoformat(text.upper()).timestamp() * 1000))
        except ValueError:
            pass  # a date that no calendar has: refused below
    raise Problem(
        BAD_POSITION,
        "since must be an RFC 3339 time with offset, Unix time in milliseconds, or `earliest`",
    )


def _documented() -> dict[int | str, dict[str, object]]:
    example = "id: AQEEAAAAAGo1\ndata: {...}\n\n"
    return {
        200: {
            "description": "The stream; it does not end by itself.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": example}},
        },
        400: {"description": "The position or a filter is malformed."},
        429: {"description": "Too many streams from one address."},
        503: {"description": "Too many streams, or the gateway shuts down."},
    }


def _count_down(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
