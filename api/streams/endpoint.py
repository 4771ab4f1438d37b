"""`GET /stream/{fraud,legit,all}`: verdicts as server-sent events, or a page for a browser."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from api import pages
from api.edge.clients import Client, client_of
from api.errors import PositionError
from api.examples import FRAUD, LEGIT
from api.masking import Masking
from api.negotiation import wants_page
from api.openapi import problem
from api.problems import (
    BAD_FILTER,
    BAD_POSITION,
    BAD_REQUEST,
    OVERLOADED,
    SHUTTING_DOWN,
    TOO_MANY,
    Problem,
)
from api.settings import ApiSettings
from api.streams import filters, sse
from api.streams.admission import Admission
from api.streams.catchup import Wish
from api.streams.eventstream import EventStream
from api.streams.hub import Hub
from api.streams.position import STREAMS, Position, decode
from wire.audit import Audit
from wire.messages import LATEST_MS

_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_SPACE_FOR_PLUS: Final = re.compile(r" (?=\d\d:\d\d\Z)", re.ASCII)
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

A browser that navigates here (`Accept: text/html`) gets a page instead, unless it asks for `raw`.
"""


def routes(hub: Hub, settings: ApiSettings, audit: Audit) -> APIRouter:
    """Make the three streams."""
    router = APIRouter(tags=["streams"])
    admission = Admission(settings)

    def open_stream(wish: Wish, client: Client) -> Response:
        if hub.draining:
            raise Problem(SHUTTING_DOWN, "open the stream again in a moment")
        return EventStream(hub, admission, wish, client, audit)

    masking = Masking(settings)
    for name in STREAMS:
        _add(router, name, masking, open_stream)
    return router


def _add(
    router: APIRouter,
    name: str,
    masking: Masking,
    open_stream: Callable[[Wish, Client], Response],
) -> None:
    async def stream(
        request: Request,
        *,
        left_at: Annotated[
            str | None,
            Header(alias="Last-Event-ID", description="the last event's id: go on right after it"),
        ] = None,
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
        account: Annotated[
            str | None, Query(description="only with this source or target (or masked id)")
        ] = None,
        currency: Annotated[
            str | None, Query(description="only in this currency", examples=["EUR"])
        ] = None,
        rule: Annotated[str | None, Query(description="only where this rule spoke")] = None,
        raw: Annotated[
            bool, Query(description="the stream itself also for a browser that navigates here")
        ] = False,
    ) -> Response:
        if not raw and wants_page(request.headers.get("accept", "")):
            return pages.stream_page(request, name)
        viewer = masking.viewer(request.scope)
        only, errors = filters.parse(min_amount, account, currency, rule, viewer)
        if errors:
            raise Problem(BAD_FILTER, "a filter is malformed", errors=errors)
        at = left_at or last_event_id
        position = _position(at, name) if at else None
        start = _since(since) if since and position is None else None
        wish = Wish(name, only, position, start)
        return open_stream(wish, client_of(request.scope))

    path = f"/stream/{name}"
    router.add_api_route(
        path,
        stream,
        methods=["GET"],
        operation_id=f"stream_{name}",
        summary=_SUMMARIES[name],
        description=_DESCRIPTION,
        response_class=Response,
        responses=_documented(name),
    )
    router.add_api_route(path, _options, methods=["OPTIONS"], include_in_schema=False)


async def _options() -> Response:
    return Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS"})


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
    if _UNIX_MS.fullmatch(text) and int(text) <= LATEST_MS:
        return int(text)
    text = _SPACE_FOR_PLUS.sub("+", text)  # what `+` means in a query unless it is written %2B
    if _RFC3339.fullmatch(text):
        try:
            return max(0, int(datetime.fromisoformat(text.upper()).timestamp() * 1000))
        except ValueError:
            pass  # a date that no calendar has: refused below
    raise Problem(
        BAD_POSITION,
        "since must be an RFC 3339 time with offset, Unix time in milliseconds, or `earliest`",
    )


def _documented(name: str) -> dict[int | str, dict[str, object]]:
    position = Position(dict.fromkeys(STREAMS[name], (12, 7, 9, 0))).encode()
    verdict = msgspec.json.encode(LEGIT if name == "legit" else FRAUD)
    example = (sse.retry(2000) + sse.verdict(position.encode(), verdict)).decode()
    text = {"type": "string"}
    return {
        200: {
            "description": "The stream; it does not end by itself. Or the page.",
            "content": {
                "text/event-stream": {"schema": text, "example": example},
                "text/html": {"schema": text},
            },
        },
        400: problem(
            "The position, a filter or a parameter is malformed.",
            BAD_POSITION,
            BAD_FILTER,
            BAD_REQUEST,
        ),
        429: problem("Too many streams of one address or credential, or requests.", TOO_MANY),
        503: problem("Too many streams, or the gateway shuts down.", OVERLOADED, SHUTTING_DOWN),
    }
