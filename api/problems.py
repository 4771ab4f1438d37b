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
    """One kind of problem: its stable code, and whether sending the same again can help.

    `meaning` and `advice` are for who meets one: what it says, and what there is to do.
    """

    code: str
    status: int
    title: str
    meaning: str
    advice: str
    retriable: bool = False

    @property
    def type(self) -> str:
        """Where it is explained: the `type` of its problems (RFC 9457, section 3.1.1)."""
        return f"/problems/{self.code}"


NOT_JSON = Kind(
    "not-json",
    400,
    "The body is not JSON",
    "The body, or one record of many, is not JSON in UTF-8 (RFC 8259), or is nested too deeply.",
    "Correct what writes the body: `detail` says what is wrong with it. Send many transactions as "
    "one JSON array, or as `application/x-ndjson`, one object a line.",
)
BAD_REQUEST = Kind(
    "bad-request",
    400,
    "The request is malformed",
    "This is no HTTP/1.1 request, it is one that two could read in two ways (by more than one "
    "`Host`, for example), or one of its parameters is malformed.",
    "Correct the request: `detail` says what is wrong, and `errors` names each malformed "
    "parameter. If the request comes by way of a proxy, look at what that makes of it.",
)
BAD_POSITION = Kind(
    "bad-position",
    400,
    "The stream position is malformed",
    "`Last-Event-ID` (or `last_event_id`) is no id that this stream gives, or `since` is no time.",
    "Send the last event's `id` back as it came, to the stream that it came from; one of "
    "`/stream/all` is good for each stream. Or begin without it: `since` is an RFC 3339 time with "
    "its offset, Unix time in milliseconds, or `earliest`.",
)
BAD_FILTER = Kind(
    "bad-filter",
    400,
    "A stream filter is malformed",
    "`min_amount`, `account`, `currency` or `rule` has a value that it can't have; where accounts "
    "are masked, an account's own id is such a one.",
    "Correct the filters that `errors` names. Where accounts are masked, ask for one by its masked "
    "id, as verdicts have it.",
)
UNAUTHENTICATED = Kind(
    "unauthenticated",
    401,
    "No credential that counts came along",
    "The request has no credential, or one that is unknown, malformed, expired or revoked.",
    "Send an API key or a token as `Authorization: Bearer`; a browser signs in at `/sign-in`. If "
    "what you sent has expired or was revoked, have who runs the gateway give you another.",
)
FORBIDDEN = Kind(
    "forbidden",
    403,
    "The credential does not allow this",
    "The credential counts, but lacks a scope that this address asks for.",
    "Use a credential that has the scopes which `detail` and `WWW-Authenticate` name, or have who "
    "runs the gateway give you one.",
)
CROSS_SITE = Kind(
    "cross-site",
    403,
    "Another site asked for this",
    "A browser's session was to be used, begun or ended, and `Sec-Fetch-Site` and `Origin` do not "
    "say that a page of this gateway asked for that.",
    "Do it from a page of the gateway. A program sends an API key or a token as "
    "`Authorization: Bearer` in place of a session. Behind a proxy that ends TLS, the gateway must "
    "know that the browser came by HTTPS (`API_TRUSTED_PROXIES`).",
)
NOT_FOUND = Kind(
    "not-found",
    404,
    "There is nothing at this address",
    "The gateway has nothing at the path that was asked for.",
    "Correct the path: `/docs` has those of the API.",
)
UNKNOWN_TRANSACTION = Kind(
    "unknown-transaction",
    404,
    "No such transaction within the look-up horizon",
    "The gateway knows of no such transaction: it took none with this id, or others have come "
    "since and it is no longer remembered (`VERDICT_INDEX_SIZE`), or another gateway took it and "
    "there is no verdict yet.",
    "Do not take this for a sign that it was lost. If another gateway may have taken it a moment "
    "ago, look again when it is decided; an older verdict is on the streams, as far back as Kafka "
    "keeps them (`since`).",
)
ORIGIN_REFUSED = Kind(
    "origin-refused",
    400,
    "Pages of this origin may not do this",
    "A browser asked first (by a CORS preflight) whether a page of another origin may send a "
    "request, and it may not: `detail` says whether for its origin, method or headers.",
    "Send only methods and headers that are allowed. Who runs the gateway names the origins whose "
    "pages may use it in `API_CORS_ORIGINS`.",
)
METHOD_NOT_ALLOWED = Kind(
    "method-not-allowed",
    405,
    "The method is not allowed here",
    "There is something at this address, but it does not take the request's method.",
    "Use one of the methods that `Allow` names.",
)
HEADER_TIMEOUT = Kind(
    "header-timeout",
    408,
    "The header did not arrive in time",
    "A request was begun on the connection, and its header was not there within "
    "`API_HEADER_TIMEOUT`; the connection is closed. Nothing was done.",
    "Connect again, and send the header in one go. If it happens often, look for what holds it "
    "up on the way.",
    retriable=True,
)
BODY_TIMEOUT = Kind(
    "body-timeout",
    408,
    "The body did not arrive in time",
    "The body was not there within `BODY_TIMEOUT`. Of a JSON body nothing was taken; of NDJSON "
    "`results` tells what became of the lines that had come.",
    "Send it again, less at a time if the line is slow: of NDJSON those lines that `results` does "
    "not tell as accepted.",
    retriable=True,
)
TOO_LARGE = Kind(
    "too-large",
    413,
    "The body is too large",
    "The body, or one transaction, is over the limit that `limit` names and `detail` gives. Of an "
    "array that is too large nothing was taken; of NDJSON `results` tells what became of the lines "
    "before.",
    "Send less at a time: smaller arrays, or less NDJSON in one body. One transaction that is too "
    "large is never taken; keep its `metadata` short.",
)
UNKNOWN_HOST = Kind(
    "unknown-host",
    421,
    "This host is not served here",
    "The name in `Host` is none that this gateway answers to. It looks, as a page from elsewhere "
    "could have its own name point here.",
    "Use one of the gateway's names, `localhost` or its IP address; or have who runs it add the "
    "name to `API_ALLOWED_HOSTS`.",
)
HEADER_TOO_LARGE = Kind(
    "header-too-large",
    431,
    "The header is too large",
    "The request's header, or what stands between and behind the parts of its body, has more bytes "
    "than `API_HEADER_BYTES`, or too many lines. The connection is closed.",
    "Send fewer and shorter headers. In a browser it may be cookies of others on the same host.",
)
UNSUPPORTED_MEDIA_TYPE = Kind(
    "unsupported-media-type",
    415,
    "The media type is not supported",
    "Transactions are taken as `application/json` or `application/x-ndjson`, in UTF-8 and not "
    "compressed; `Content-Type` or `Content-Encoding` says that the body is something else.",
    "Send one of these, and say so in `Content-Type`.",
)
INVALID_TRANSACTION = Kind(
    "invalid-transaction",
    422,
    "The transaction is invalid",
    "What was sent is JSON, but no transaction: a field is missing, unknown, given twice, or not "
    "of the form that it must have. Nothing of it was taken; many in one body are answered so if "
    "none of them is valid.",
    "Correct the fields that `errors` names by JSON Pointer, or `results` for each of many. "
    "`/schemas/transaction.json` is the schema.",
)
TOO_MANY = Kind(
    "too-many-requests",
    429,
    "Over a limit",
    "This address or credential has sent too many requests, transactions or credentials that do "
    "not count, or has too many connections or streams open. Nothing was done.",
    "Wait for as many seconds as `Retry-After` says, then send it again; or end a connection or a "
    "stream first, if there are too many. Where requests are limited, `RateLimit` on each answer "
    "tells what is left.",
    retriable=True,
)
INTERNAL = Kind(
    "internal-error",
    500,
    "The gateway failed",
    "The gateway has a fault: its log says why, in the lines that have this `request_id`. Whether "
    "a transaction that was sent is in Kafka is unknown.",
    "Tell who runs the gateway the `request_id`. A transaction may be sent again with the same "
    "`transaction_id`: there will be one verdict.",
)
OVERLOADED = Kind(
    "overloaded",
    503,
    "Too much is in flight",
    "The gateway has as much under way, or as many connections, streams or filters, as it may "
    "have: `detail` says what. (Or, in a look-up, another of its processes did not answer.) A "
    "transaction that is refused for this was not sent to Kafka; of NDJSON `results` tells what "
    "became of the lines that had come.",
    "Wait as `Retry-After` says, then send it again, a transaction with the same "
    "`transaction_id`. If it stays, send less at a time; who runs the gateway can start more.",
    retriable=True,
)
NOT_ACKNOWLEDGED = Kind(
    "not-acknowledged",
    503,
    "Kafka did not acknowledge in time; the outcome is unknown",
    "The transaction was sent to Kafka, and Kafka did not say that it has it: it may or may not "
    "be there, and may get its verdict.",
    "Send it again with the `transaction_id` that the answer names, also where you gave it none: "
    "there will be one verdict, if it comes within ten minutes, or what the rules have as "
    "`duplicates`.",
    retriable=True,
)
KAFKA_UNAVAILABLE = Kind(
    "kafka-unavailable",
    503,
    "Kafka can't be reached",
    "The gateway has no connection to Kafka, or Kafka acknowledges nothing for this account's "
    "partition. The transaction was not sent to Kafka; of many, none is known to be there, and "
    "`results` says why of each.",
    "Send it again with the same `transaction_id`, as `Retry-After` says, until Kafka is back: "
    "there will be one verdict.",
    retriable=True,
)
SHUTTING_DOWN = Kind(
    "shutting-down",
    503,
    "The gateway is shutting down",
    "This process of the gateway ends, and takes nothing more. A transaction that is refused for "
    "this was not sent to Kafka; of NDJSON `results` tells what became of the lines before.",
    "Send it again in a moment, with the same `transaction_id`, or open the stream again with the "
    "last event's id: another process, or this one started anew, goes on.",
    retriable=True,
)
NOT_READY = Kind(
    "not-ready",
    503,
    "The gateway is not ready",
    "Only `/readyz` answers so: `ingest` is false while no transaction could reach Kafka, "
    "`streams` while the streams do not follow their topics.",
    "Send requests to another gateway meanwhile, and ask again.",
    retriable=True,
)

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
            "type": self.kind.type,
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
