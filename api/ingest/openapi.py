"""What OpenAPI says of the ingest routes.

POST /transactions is a bare ASGI route, so its description is written here and not derived.
"""

from typing import Any, Final

import msgspec

from api import problems
from api.examples import FRAUD, OTHERS, TRANSACTION
from api.ingest.refusals import MAX_ERRORS_PER_RECORD, MAX_EXPLAINED_BYTES
from api.openapi import RETRY_AFTER, answer, problem
from api.schemas import ref
from api.settings import ApiSettings

_ID: Final = TRANSACTION["transaction_id"]
_PLACE: Final = {"topic": "queueing.transactions", "partition": 2, "offset": 41}
_ACCEPTED: Final = {"transaction_id": _ID, "status": "accepted", **_PLACE}
_DECIDED: Final = {"transaction_id": _ID, "status": "decided", **_PLACE, "verdict": FRAUD}
_LOCATION: Final = {
    "description": "where the verdict can be looked up; on the answer to one transaction",
    "schema": {"type": "string", "format": "uri-reference"},
}
_AGAIN: Final = _LOCATION | {"description": "where it can be looked up again", "required": True}
_APPLIED: Final = {
    "description": "`wait=SECONDS`, if the answer was held back for the verdict",
    "schema": {"type": "string", "pattern": "^wait=[0-9]+$"},
}
_DESCRIPTION: Final = """\
Takes one transaction (a JSON object) or many (a JSON array, or NDJSON: one object a line).
Every 2xx means that Kafka has the record, on all in-sync replicas.

* **One**: 202 with its place in Kafka. With `Prefer: wait=SECONDS` the answer waits for the
  verdict and is 200; when the time is over first, it is the 202. The time is limited to
  {max_wait_seconds} s; when too many requests wait already, the preference is not applied.
* **Many**: 202 if all were accepted, 207 if some were (or if they failed for different sorts of
  causes), 422 if all were invalid, 503 if all failed for a retriable cause; always with the
  results in order. NDJSON is taken as it arrives: when a body is cut short (408, 413, 503), the
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


def paths(settings: ApiSettings) -> dict[str, Any]:
    """Give the operations by path, as they are in the document."""
    return {
        "/transactions": {"post": _post(settings)},
        "/transactions/{transaction_id}": {"get": _get(settings)},
    }


def _post(settings: ApiSettings) -> dict[str, Any]:
    posted = ref("PostedTransaction")
    lines = msgspec.json.Encoder().encode_lines(OTHERS).decode()
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
                        "one": {"value": TRANSACTION},
                        "many": {"value": [TRANSACTION, *OTHERS]},
                    },
                },
                "application/x-ndjson": {
                    "schema": {
                        "type": "string",
                        "description": "one PostedTransaction a line; empty lines are skipped",
                    },
                    "example": lines,
                },
            },
        },
        "responses": {
            "200": answer(
                "The verdict, as preferred.",
                {"decided": (ref("Decided"), _DECIDED)},
                {
                    "Content-Location": _AGAIN,
                    "Preference-Applied": {**_APPLIED, "required": True},
                },
            ),
            "202": answer(
                "Kafka has the transaction, or all of them.",
                {
                    "one": (ref("Accepted"), _ACCEPTED),
                    "many": (ref("Results"), _results(some_refused=False)),
                },
                {"Location": _LOCATION, "Preference-Applied": _APPLIED},
            ),
            "207": answer(
                "Kafka has some of the transactions.",
                {"many": (ref("Results"), _results(some_refused=True))},
            ),
            "400": problem(
                "The body is no JSON, or is badly framed.", problems.NOT_JSON, problems.BAD_REQUEST
            ),
            "408": problem("The body did not arrive in time.", problems.BODY_TIMEOUT),
            "413": problem("The body, or one transaction, is too large.", problems.TOO_LARGE),
            "415": problem(
                "The media type, charset or encoding is not taken.",
                problems.UNSUPPORTED_MEDIA_TYPE,
            ),
            "422": problem(
                "The transaction is invalid, or all of them are.", problems.INVALID_TRANSACTION
            ),
            "503": problem(
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
            "200": answer("The verdict.", {"decided": (ref("LookedUp"), looked_up)}),
            "202": answer(
                "Kafka has the transaction; there is no verdict yet.",
                {"pending": (ref("Pending"), pending)},
                {"Retry-After": RETRY_AFTER},
            ),
            "404": problem(
                "Not known, or longer ago than this process remembers.",
                problems.UNKNOWN_TRANSACTION,
            ),
            "503": problem(
                "Not known here, and another process of the gateway does not answer.",
                problems.OVERLOADED,
            ),
        },
    }


def _results(*, some_refused: bool) -> dict[str, Any]:
    results: list[dict[str, Any]] = [{"index": 0, "status": 202, "transaction_id": _ID}]
    if some_refused:
        refused = problems.Problem(problems.INVALID_TRANSACTION, "not a valid transaction")
        results.append({"index": 1, "status": 422, "error": refused.document()})
    return {"accepted": 1, "rejected": len(results) - 1, "results": results}
