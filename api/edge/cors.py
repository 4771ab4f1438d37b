"""Pages of other origins that may use the API from a browser (CORS, WHATWG Fetch, section 3.3)."""

from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from api.problems import ORIGIN_REFUSED, Problem

METHODS: Final = ("GET", "HEAD", "POST")
TAKEN: Final = ("Authorization", "Content-Type", "Last-Event-ID", "Prefer", "X-Request-ID")
"""Headers that such a page may send; a few more always may be (CORS-safelisted)."""
SHOWN: Final = (
    "Content-Location",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
)
"""Headers of answers that it may read."""


class Cors(CORSMiddleware):
    """Starlette's, but its refusals are problems like all others."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        """Allow these origins; `*` for all, whose pages then are nobody in particular."""
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=TAKEN,
            allow_credentials="*" not in origins,
            expose_headers=SHOWN,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer whether a request may be made."""
        answer = super().preflight_response(request_headers)
        if answer.status_code != HTTPStatus.BAD_REQUEST:
            return answer
        what = bytes(answer.body).decode().removeprefix("Disallowed CORS ")
        kept = {name: answer.headers[name] for name in ("vary",)}
        return Problem(ORIGIN_REFUSED, f"not allowed: {what}", headers=kept).response()
