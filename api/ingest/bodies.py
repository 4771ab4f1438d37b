"""Request bodies: read under a limit and a deadline, in a media type that is taken."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final, Literal

from starlette.responses import Response
from starlette.types import Message, Receive, Send

from api.ingest.budget import Budget
from api.problems import (
    BODY_TIMEOUT,
    SHUTTING_DOWN,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)

Form = Literal["json", "ndjson"]
MEDIA_TYPES: Final[dict[str, Form]] = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
}


LINGER_S: Final = 1.0
"""How long a body that was refused while it arrived is still read, and dropped."""


class Disconnected(Exception):  # noqa: N818 - an event, not a fault
    """The client went away before its body was complete."""


@lru_cache(256)
def form(content_type: bytes) -> Form:
    """Tell the form of a body from its Content-Type.

    Raises:
        Problem: another media type, or a charset other than UTF-8.
    """
    essence, *parameters = content_type.decode("latin-1").split(";")
    found = MEDIA_TYPES.get(essence.strip().lower())
    if found is None:
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be " + " or ".join(MEDIA_TYPES),
            headers={"Accept": ", ".join(MEDIA_TYPES)},
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(' "').lower() not in ("utf-8", "utf8"):
            raise Problem(UNSUPPORTED_MEDIA_TYPE, "charset must be utf-8: JSON is (RFC 8259)")
    return found


def check_encoding(content_encoding: bytes) -> None:
    """Refuse a compressed body.

    Raises:
        Problem: a Content-Encoding other than identity.
    """
    if content_encoding.strip().lower() not in (b"", b"identity"):
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            "Content-Encoding must be identity: compressed bodies are not taken",
            headers={"Accept-Encoding": "identity"},
        )


class Arrivals:
    """Bounds how long a body may take to arrive; when the gateway stops, how long any still may."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = float("inf")
        self._awaited: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[None]:
        """Read a body in here.

        Raises:
            Problem: it did not arrive in time.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + self._seconds, self._ends_at)) as limit:
                self._awaited.add(limit)
                try:
                    yield
                finally:
                    self._awaited.discard(limit)
        except TimeoutError:
            if loop.time() >= self._ends_at:
                raise Problem(SHUTTING_DOWN, "the gateway is shutting down") from None
            detail = f"body_timeout: the body did not arrive within {self._seconds:g} s"
            raise Problem(BODY_TIMEOUT, detail) from None

    def end(self, within: float) -> None:
        """Wait for no body for longer than so many seconds from now on."""
        self._ends_at = asyncio.get_running_loop().time() + within
        for limit in self._awaited:
            if not limit.expired():
                limit.reschedule(min(self._ends_at, limit.when() or self._ends_at))


async def chunks(receive: Receive, first: Message | None = None) -> AsyncIterator[bytes]:
    """Give the body piece by piece, beginning with a message that was received already.

    Raises:
        Disconnected: the client went away first.
    """
    message = first or await receive()
    while message["type"] != "http.disconnect":
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return
        message = await receive()
    raise Disconnected


async def object_or_array(
    receive: Receive, budget: Budget, *, object_bytes: int, array_bytes: int
) -> bytes:
    """Read a JSON document whole: an array may be larger than anything else.

    What comes in pieces, or is an array, is held against the budget while it is read.

    Raises:
        Problem: it is larger than that, or too much is held; found while reading, not after.
        Disconnected: the client went away first.
    """
    message = await receive()
    body: bytes = message.get("body", b"")
    if body[:1] == b"{" and len(body) <= object_bytes and not message.get("more_body", False):
        return body  # as nearly all are
    parts: list[bytes] = []
    size = 0
    name, limit = "max_transaction_bytes", object_bytes
    blank = True
    with budget.hold() as hold:
        async for chunk in chunks(receive, message):
            size += len(chunk)
            if blank and not chunk.isspace():
                blank = not chunk
                if is_array(chunk):
                    name, limit = "max_array_bytes", array_bytes
            if size > limit:
                raise too_large(name, limit)
            hold.add(len(chunk))
            parts.append(chunk)
    return b"".join(parts)


async def refuse_unread(response: Response, rest: Receive | None, send: Send) -> None:
    """Answer although the body goes on, and close the connection.

    Closing at once would reset it and could destroy the answer before the client has read it, so
    what it still sends is dropped for a moment first (nginx calls this a lingering close).

    Args:
        response: the answer.
        rest: receives what is still sent; None: the body is here, nothing more of it comes.
        send: sends the answer (ASGI).
    """
    headers = [*response.raw_headers, (b"connection", b"close")]
    status = response.status_code
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if rest is not None:
        await _drop(rest)
    await send({"type": "http.response.body", "body": b""})


async def _drop(rest: Receive) -> None:
    try:
        async with asyncio.timeout(LINGER_S):
            async for _ in chunks(rest):
                pass
    except (TimeoutError, Disconnected):
        pass  # either way nobody sends any more


def is_array(body: bytes) -> bool:
    """Tell whether a JSON document, or the beginning of one, is an array."""
    return body.lstrip(b" \t\r\n")[:1] == b"["


def too_large(name: str, limit: int) -> Problem:
    """Make the problem that names the limit which a body is over."""
    return Problem(TOO_LARGE, f"{name}: at most {limit} bytes are taken", limit=name)
