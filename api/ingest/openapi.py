"""What OpenAPI says of the ingest routes.

POST /transactions is a bare ASGI route, so its description is written here and not derived.
"""

from copy import deepcopy
from typing import Any, Final

import msgspec

from api import problems
from api.access import routes
from api.access.session import PLAIN_NAME, SECURE_NAME
from api.edge.limits import FREE
from api.ingest.refusals import MAX_ERRORS_PER_RECORD, MAX_EXPLAINED_BYTES
from api.problems import Kind
from api.schemas import components, ref
from api.settings import ApiSettings

_TRANSACTION: Final = {
    "transaction_id": "01938f3e-4c1a-7a52-9d0e-0242ac120002",
    "source": "acc-000017",
    "target": "acc-004711",
    "amount": 900.01,
    "currency": "EUR",
    "occurred_at": "2026-11-23T12:00:00.123Z",
}
_VERDICT: Final = {
    **_TRANSACTION,
    "amount": "900.01",
    "decision": "fraud",
    "score": 100,
    "reasons": [{"rule": "large-amount", "version": "1", "detail": "amount 900.01 > 900"}],
    "rules_version": "2c26b46b68ff",
    "received_at": "2026-11-23T12:00:00.130Z",
    "decided_at": "2026-11-23T12:00:00.141Z",
}
_ID: Final = _TRANSACTION["transaction_id"]
_PLACE: Final = {"topic": "queueing.transactions", "partition": 2, "offset": 41}
_ACCEPTED: Final = {"transaction_id": _ID, "status": "accepted", **_PLACE}
_DECIDED: Final = {"transaction_id": _ID, "status": "decided", **_PLACE, "verdict": _VERDICT}
_RETRY_AFTER: Final = {
    "description": "seconds to wait before the same request is sent again",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
}
_LOCATION: Final = {
    "description": "where the verdict can be looked up; on the answer to one transaction",
    "schema": {"type": "string", "format": "uri-reference"},
}
_APPLIED: Final = {
    "description": "`wait=SECONDS`, if the answer was held back for the verdict",
    "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
}
_REQUEST_ID: Final = {
    "description": "the request's own X-Request-ID, or one made for it",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._~:+/=@-]{1,128}$"},
}
_LIMITS: Final = {
    "RateLimit": {
        "description": "what is left to the client, where a limit is set",
        "schema": {"type": "string"},
        "example": '"address";r=99;t=10',
    },
    "RateLimit-Policy": {
        "description": "the limits that it is held to (draft-ietf-httpapi-ratelimit-headers)",
        "schema": {"type": "string"},
        "example": '"address";q=100;w=10',
    },
}
_DESCRIPTION: Final = """\
Takes one transaction (a JSON object) or many (a JSON array, or NDJSON: one object a line).
Every 2xx means that Kafka has the record, on all in-sync replicas.

* **One**: 202 with its place in Kafka. With `Prefer: wait=SECONDS` the answer waits for the
  verdict and is 200; when the time is over first, it is the 202. The time is limited to
  {max_wait_seconds} s; when too many requests wait already, the preference is not applied.
* **Many**: 202 if all were accepted, 207 if some were (or if they failed for different sorts of
  causes), 422 if all were invalid, 503 if all failed for a retriable cause; always with the
  results in order. NDJSON is taken as it arrives: when a body is cut short (408, 413), the
  results say what was accepted before. An array is taken as a whole or, over a limit, not at all.
  Of invalid records at most {max_errors_per_record} fields are told, and once that has come to
  {max_explained_bytes} bytes, one sentence stands for the fields of each further one.

After `not-acknowledged` the record may or may not be in Kafka: sent again with the same
`transaction_id` it gets one verdict all the same. A field given twice in one object is an error.

Limits: a transaction {max_transaction_bytes} bytes, an array {max_array_bytes}, a body
{max_body_bytes}, {max_batch_records} records a body, {body_timeout:g} s for the body to arrive,
{delivery_timeout:g} s for Kafka to acknowledge; what is held of all bodies together
{max_body_bytes_in_flight} bytes (503 `overloaded`). A refusal names the limit. Bodies are UTF-8 and
not compressed.
"""


def complete(document: dict[str, Any], settings: ApiSettings) -> dict[str, Any]:
    """Add the ingest routes and the schemas to an OpenAPI document; give the document."""
    paths = {
        "/transactions": {"post": _post(settings)},
        "/transactions/{transaction_id}": {"get": _get(settings)},
    }
    document["paths"] = paths | document["paths"]
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(components())
    # FastAPI tells of a 422 of its own for bad parameters: here they are a 400, told already.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    if settings.authenticates:
        _close(document)
    for name, path in document["paths"].items():
        for operation in path.values():
            _put_edge(operation["responses"], has_limit=not name.startswith(FREE))
    return document


def _put_edge(responses: dict[str, Any], *, has_limit: bool) -> None:
    """Describe what any operation may answer, and the headers that answers have."""
    responses["421"] = _problem("The name in Host is none of the gateway's.", problems.UNKNOWN_HOST)
    if has_limit:
        over = _problem("Over a limit: come back after Retry-After.", problems.TOO_MANY)
        responses["429"] = over | {"headers": over["headers"] | _LIMITS}
    for status, response in responses.items():
        headers = response.setdefault("headers", {})
        headers["X-Request-ID"] = _REQUEST_ID
        if has_limit and status.startswith("2"):
            headers |= _LIMITS


def _close(document: dict[str, Any]) -> None:
    """Say what each operation asks of those who send it."""
    document["components"]["securitySchemes"] = {
        "credential": {
            "type": "http",
            "scheme": "bearer",
            "description": "an API key, or a JSON Web Token",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": SECURE_NAME,
            "description": f"of a browser that has signed in; `{PLAIN_NAME}` over plain HTTP",
        },
    }
    for path, operations in document["paths"].items():
        need = routes.need(path)
        assert need is not None  # noqa: S101 - a route that is not in the table is none
        for operation in operations.values():
            operation["security"] = [
                {scheme: sorted(scopes)}
                for scopes in need.alternatives
                for scheme in ("credential", "session")
            ]
            if not need.is_open:
                operation["responses"] |= deepcopy(_REFUSALS)


def _post(settings: ApiSettings) -> dict[str, Any]:
    posted = ref("PostedTransaction")
    line = msgspec.json.encode(_TRANSACTION).decode() + "\n"
    return {
        "tags": ["transactions"],
        "operationId": "post_transactions",
        "summary": "Take transactions in",
        "description": _DESCRIPTION.format(
            **settings.model_dump(),
            max_errors_per_record=MAX_ERRORS_PER_RECORD,
            max_explained_bytes=MAX_EXPLAINED_BYTES,
        ),
        "parameters": [
            {
                "name": "Prefer",
                "in": "header",
                "description": "`wait=SECONDS`: wait that long for the verdict (RFC 7240)",
                "schema": {"type": "string"},
                "example": "wait=5",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [
                            posted,
                            {"type": "array", "items": posted, "minItems": 1},
                        ]
                    },
                    "examples": {
                        "one": {"value": _TRANSACTION},
                        "many": {"value": [_TRANSACTION, {**_TRANSACTION, "amount": "12.50"}]},
                    },
                },
                "application/x-ndjson": {
                    "schema": {
                        "type": "string",
                        "description": "one PostedTransaction a line; empty lines are skipped",
                    },
                    "example": line * 2,
                },
            },
        },
        "responses": {
            "200": _answer(
                "The verdict, as preferred.",
                {"decided": (ref("Decided"), _DECIDED)},
                {"Preference-Applied": {**_APPLIED, "required": True}},
            ),
            "202": _answer(
                "Kafka has the transaction, or all of them.",
                {
                    "one": (ref("Accepted"), _ACCEPTED),
                    "many": (ref("Results"), _results(some_refused=False)),
                },
                {"Location": _LOCATION, "Preference-Applied": _APPLIED},
            ),
            "207": _answer(
                "Kafka has some of the transactions.",
                {"many": (ref("Results"), _results(some_refused=True))},
            ),
            "400": _problem("The body is no JSON.", problems.NOT_JSON),
            "408": _problem("The body did not arrive in time.", problems.BODY_TIMEOUT),
            "413": _problem("The body, or one transaction, is too large.", problems.TOO_LARGE),
            "415": _problem(
                "The media type, charset or encoding is not taken.",
                problems.UNSUPPORTED_MEDIA_TYPE,
            ),
            "422": _problem(
                "The transaction is invalid, or all of them are.", problems.INVALID_TRANSACTION
            ),
            "503": _problem(
                "Kafka does not have the transactions, or did not say so: send them again.",
                problems.OVERLOADED,
                problems.NOT_ACKNOWLEDGED,
                problems.KAFKA_UNAVAILABLE,
                problems.SHUTTING_DOWN,
            ),
        },
    }


def _get(settings: ApiSettings) -> dict[str, Any]:
    looked_up = {key: _DECIDED[key] for key in ("transaction_id", "status", "verdict")}
    pending = {"transaction_id": _ID, "status": "pending"}
    return {
        "tags": ["transactions"],
        "operationId": "get_transaction",
        "summary": "Look up the verdict on a transaction",
        "description": f"Each gateway process knows the last {settings.verdict_index_size} "
        "verdicts or more (of large ones fewer), and which of the transactions that it took in are "
        "still pending.",
        "parameters": [
            {
                "name": "transaction_id",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
                "example": _ID,
            }
        ],
        "responses": {
            "200": _answer("The verdict.", {"decided": (ref("LookedUp"), looked_up)}),
            "202": _answer(
                "Kafka has the transaction; there is no verdict yet.",
                {"pending": (ref("Pending"), pending)},
                {"Retry-After": _RETRY_AFTER},
            ),
            "404": _problem(
                "Not known, or longer ago than this process remembers.",
                problems.UNKNOWN_TRANSACTION,
            ),
        },
    }


def _answer(
    description: str,
    forms: dict[str, tuple[dict[str, Any], Any]],
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    kinds = [schema for schema, _ in forms.values()]
    content = {
        "schema": kinds[0] if len(kinds) == 1 else {"oneOf": kinds},
        "examples": {name: {"value": value} for name, (_, value) in forms.items()},
    }
    answer = {"description": description, "content": {"application/json": content}}
    return answer | ({"headers": headers} if headers else {})


def _problem(description: str, *kinds: Kind) -> dict[str, Any]:
    schema = {
        "allOf": [
            ref("Problem"),
            {
                "properties": {
                    "code": {"enum": [kind.code for kind in kinds]},
                    "status": {"const": kinds[0].status},
                }
            },
        ]
    }
    examples = {
        kind.code: {"value": problems.Problem(kind, "what is wrong, in a sentence").document()}
        for kind in kinds
    }
    answer: dict[str, Any] = {
        "description": description,
        "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }
    if all(kind.retriable for kind in kinds) and kinds[0] is not problems.BODY_TIMEOUT:
        answer["headers"] = {"Retry-After": _RETRY_AFTER}
    return answer


def _results(*, some_refused: bool) -> dict[str, Any]:
    results: list[dict[str, Any]] = [{"index": 0, "status": 202, "transaction_id": _ID}]
    if some_refused:
        refused = problems.Problem(problems.INVALID_TRANSACTION, "not a valid transaction")
        results.append({"index": 1, "status": 422, "error": refused.document()})
    return {"accepted": 1, "rejected": len(results) - 1, "results": results}


_CHALLENGE: Final = {
    "description": "what was missing (RFC 6750, 3)",
    "schema": {"type": "string", "pattern": "^Bearer"},
}
_REFUSALS: Final = {
    "401": _problem("No credential that counts came along.", problems.UNAUTHENTICATED)
    | {"headers": {"WWW-Authenticate": {**_CHALLENGE, "required": True}}},
    "403": _problem("The credential does not allow this.", problems.FORBIDDEN, problems.CROSS_SITE)
    | {"headers": {"WWW-Authenticate": _CHALLENGE}},
}
