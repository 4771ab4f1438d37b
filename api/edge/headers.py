"""Headers that every answer has, and those that pages have beside them."""

from collections.abc import Mapping
from typing import Final

from api.edge.settings import EdgeSettings

_ALWAYS: Final[Mapping[str, str]] = {"X-Content-Type-Options": "nosniff"}
PAGE: Final[Mapping[str, str]] = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}


def of_every_answer(settings: EdgeSettings, *, tls: bool) -> list[tuple[str, str]]:
    """Give the headers of every answer, the server's own errors among them."""
    headers = dict(_ALWAYS)
    if tls and settings.api_hsts_seconds:
        headers["Strict-Transport-Security"] = f"max-age={settings.api_hsts_seconds}"
    return list(headers.items())
