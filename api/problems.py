"""Problem details for HTTP (RFC 9457): every error answer of the gateway has this form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPMethod, HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from wire import logs
from wire.errors import FieldError

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its stable code, and whether sending the same again can help."""

    code: str
    status: int
    title: str
    retriable: bool = False


NOT_JSON = Kind("not-json", 400, "The body is not JSON")
BAD_REQUEST = Kind("bad-request", 400, "The request is malformed")
BAD_POSITION = Kind("bad-position", 400, "The stream position is malformed")
BAD_FILTER = Kind("bad-filter", 400, "A stream filter is malformed")
UNAUTHENTICATED = Kind("unauthenticated", 401, "No credential that counts came along")
FORBIDDEN = Kind("forbidden", 403, "The credential does not allow this")
CROSS_SITE = Kind("cross-site", 403, "Another site asked for this")
NOT_FOUND = Kind("not-found", 404, "There is nothing at this address")
UNKNOWN_TRANSACTION = Kind(
    "unknown-transaction", 404, "No such transaction within the look-up horizon"
)
ORIGIN_REFUSED = Kind("origin-refused", 400, "Pages of this origin may not do this")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "The method is not allowed here")
HEADER_TIMEOUT = Kind("header-timeout", 408, "The header did not arrive in time", retriable=True)
BODY_TIMEOUT = Kind("body-timeout", 408, "The body did not arrive in time", retriable=True)
TOO_LARGE = Kind("too-large", 413, "The body is too large")
UNKNOWN_HOST = Kind("unknown-host", 421, "This host is not served here")
HEADER_TOO_LARGE = Kind("header-too-large", 431, "The header is too large")
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported-media-type", 415, "The media type is not supported")
INVALID_TRANSACTION = Kind("invalid-transaction", 422, "The transaction is invalid")
TOO_MANY = Kind("too-many-requests", 429, "Over a limit", retriable=True)
INTERNAL = Kind("internal-error", 500, "The gateway failed")
OVERLOADED = Kind("overloaded", 503, "Too much is in flight", retriable=True)
NOT_ACKNOWLEDGED = Kind(
    "not-acknowledged",
    503,
    "Kafka did not acknowledge in time; the outcome is unknown",
    retriable=True,
)
KAFKA_UNAVAILABLE = Kind("kafka-unavailable", 503, "Kafka can't be reached", retriable=True)
SHUTTING_DOWN = Kind("shutting-down", 503, "The gateway is shutting down", retriable=True)
NOT_READY = Kind("not-ready", 503, "The gateway is not ready", retriable=True)

KINDS: Final[tuple[Kind, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Kind)
)
_BY_STATUS: Final = {404: NOT_FOUND, 405: METHOD_NOT_ALLOWED, 413: TOO_LARGE}


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """An error answer; raise it anywhere in a request."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """Give the problem as RFC 9457 members and our own: code, retriable, errors."""
        document: dict[str, Any] = {
            "type": f"/problems/{self.kind.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.kind.code,
            "retriable": self.kind.retriable,
            **self.extra,
        }
        if self.errors:
            document["errors"] = [error._asdict() for error in self.errors]
        return document

    def response(self) -> Response:
        """Give the problem as an answer; a retriable one says when to try again."""
        headers = {"Cache-Control": "no-store", **self.headers}
        if self.kind.retriable and self.kind.status in (429, 503):
            headers.setdefault("Retry-After", "1")
        document = self.document()
        if of := logs.request_id.get():
            document["request_id"] = of
        body = msgspec.json.encode(document)
        return Response(body, self.kind.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of the app an RFC 9457 answer."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(Exception, _internal)


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this type only
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
    status = HTTPStatus(error.status_code)
    kind = _BY_STATUS.get(status) or replace(BAD_REQUEST, status=status, title=status.phrase)
    headers = dict(error.headers or {})
    if "Allow" in headers:  # it names the methods of the first route there, and of no other
        headers["Allow"] = ", ".join(_allowed(request))
    return Problem(kind, str(error.detail), headers=headers).response()


def _allowed(request: Request) -> list[str]:
    """Give the methods that a request's address takes (RFC 9110, section 10.2.1)."""
    return [
        method.value
        for method in HTTPMethod
        if any(
            route.matches({**request.scope, "method": method.value})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


async def _bad_parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    errors = [
        FieldError("/" + "/".join(map(str, item["loc"])), item["msg"]) for item in error.errors()
    ]
    return Problem(BAD_REQUEST, "a parameter is malformed", errors=errors).response()


async def _internal(_request: Request, _error: Exception) -> Response:
    return Problem(INTERNAL, "the gateway failed; its log says why").response()
