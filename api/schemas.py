"""The JSON Schemas of what goes in and out over HTTP, and those of the messages as documents."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from api.problems import KINDS
from wire import schemas

MEDIA_TYPE: Final = "application/schema+json"
_REF: Final = "#/components/schemas/{name}"


def routes() -> APIRouter:
    """Make the routes of the messages' JSON Schemas."""
    router = APIRouter(prefix="/schemas", tags=["documents"])
    documents = {
        "transaction.json": ("A transaction as it is posted", "PostedTransaction"),
        "verdict.json": ("A verdict", "Verdict"),
    }
    for path, (what, name) in documents.items():
        body = msgspec.json.encode(schemas.document(name))

        router.add_api_route(
            "/" + path,
            _endpoint(body),
            summary=f"{what}: JSON Schema",
            operation_id=f"schema_{path.split('.')[0]}",
            response_class=Response,
            responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}},
            response_description="The schema (draft 2020-12).",
        )

    return router


def components() -> dict[str, Any]:
    """Give the schemas that OpenAPI refers to, by name."""
    count = {"type": "integer", "minimum": 0}
    text = {"type": "string"}
    tally = {
        "accepted": count,
        "rejected": count,
        "results": {"type": "array", "items": ref("Result")},
    }
    place = {"topic": text, "partition": count, "offset": count}
    verdict = {"verdict": ref("Verdict")}
    field_error = {
        "pointer": {**text, "description": "JSON Pointer (RFC 6901); empty for the whole"},
        "detail": text,
    }
    problem = {
        "type": {
            **text,
            "format": "uri-reference",
            "description": "where the gateway says what this means and what to do",
        },
        "title": text,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": text,
        "code": {"type": "string", "enum": [kind.code for kind in KINDS]},
        "retriable": {"type": "boolean", "description": "whether sending the same again can help"},
        "errors": {"type": "array", "items": ref("FieldError")},
        "transaction_id": {**text, "description": "which transaction to send again"},
        "request_id": {**text, "description": "as in X-Request-ID, and in the gateway's log"},
        "limit": {**text, "description": "the setting that the request is over"},
        "ingest": {"type": "boolean", "description": "of `/readyz`: are transactions taken?"},
        "streams": {"type": "boolean", "description": "of `/readyz`: do they follow Kafka?"},
        **tally,
    }
    needed = ("type", "title", "status", "detail", "code", "retriable")
    return {
        **schemas.components(_REF),
        "Accepted": _object({"transaction_id": text, "status": {"const": "accepted"}, **place}),
        "Decided": _object(
            {"transaction_id": text, "status": {"const": "decided"}, **place, **verdict}
        ),
        "LookedUp": _object({"transaction_id": text, "status": {"const": "decided"}, **verdict}),
        "Pending": _object({"transaction_id": text, "status": {"const": "pending"}}),
        "Results": _object(tally),
        "Result": {
            "description": "What became of one record: a transaction_id or an error.",
            **_object(
                {
                    "index": {**count, "description": "place in the body, from 0"},
                    "status": {"type": "integer", "minimum": 200, "maximum": 599},
                    "transaction_id": text,
                    "error": ref("Problem"),
                },
                ("index", "status"),
            ),
            # One of the two. A `oneOf` of what is required would say so more plainly, but
            # generators of clients make an empty class of it.
            "minProperties": 3,
            "maxProperties": 3,
        },
        "FieldError": _object(field_error),
        "Problem": {
            "description": "RFC 9457, with members of our own.",
            **_object(problem, needed),
        },
    }


def _object(properties: dict[str, Any], required: tuple[str, ...] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
    }


def ref(name: str) -> dict[str, Any]:
    return {"$ref": _REF.format(name=name)}


def _endpoint(body: bytes) -> Callable[[], Awaitable[Response]]:
    async def schema() -> Response:
        return Response(body, media_type=MEDIA_TYPE)

    return schema
