"""The OpenAPI document: answers as it describes them, and what FastAPI does not know of it."""

from copy import deepcopy
from typing import Any, Final

from api import problems
from api.access import routes
from api.access.session import PLAIN_NAME, SECURE_NAME
from api.edge.limits import FREE
from api.problems import Kind
from api.schemas import components, ref
from api.settings import ApiSettings

RETRY_AFTER: Final = {
    "description": "seconds to wait before the same request is sent again",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
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


def answer(
    description: str,
    forms: dict[str, tuple[dict[str, Any], Any]],
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe an answer that is no error; `forms` are schema and example by name."""
    kinds = [schema for schema, _ in forms.values()]
    content = {
        "schema": kinds[0] if len(kinds) == 1 else {"oneOf": kinds},
        "examples": {name: {"value": value} for name, (_, value) in forms.items()},
    }
    described = {"description": description, "content": {"application/json": content}}
    return described | ({"headers": headers} if headers else {})


def problem(description: str, *kinds: Kind) -> dict[str, Any]:
    """Describe an error answer, which may be of any of some kinds that have one status."""
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
    described: dict[str, Any] = {
        "description": description,
        "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }
    if all(kind.retriable for kind in kinds) and kinds[0] is not problems.BODY_TIMEOUT:
        described["headers"] = {"Retry-After": RETRY_AFTER}
    return described


def complete(document: dict[str, Any], paths: dict[str, Any], settings: ApiSettings) -> None:
    """Add to a document what FastAPI does not know: more operations, schemas, the edge, access."""
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


def _put_edge(responses: dict[str, Any], *, has_limit: bool) -> None:
    """Describe what any operation may answer, and the headers that answers have."""
    responses["421"] = problem("The name in Host is none of the gateway's.", problems.UNKNOWN_HOST)
    if has_limit:
        over = problem("Over a limit: come back after Retry-After.", problems.TOO_MANY)
        responses.setdefault("429", over)["headers"] |= _LIMITS
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


_CHALLENGE: Final = {
    "description": "what was missing (RFC 6750, 3)",
    "schema": {"type": "string", "pattern": "^Bearer"},
}
_REFUSALS: Final = {
    "401": problem("No credential that counts came along.", problems.UNAUTHENTICATED)
    | {"headers": {"WWW-Authenticate": {**_CHALLENGE, "required": True}}},
    "403": problem("The credential does not allow this.", problems.FORBIDDEN, problems.CROSS_SITE)
    | {"headers": {"WWW-Authenticate": _CHALLENGE}},
}
