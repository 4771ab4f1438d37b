"""Gateways that ask who comes, and requests to them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access.principal import PRINCIPAL, Principal
from tests.credentials import KeyFile, jwt_settings
from tests.trust import TRUST

StartGateway = Callable[..., AbstractContextManager[str]]
POLL_S: Final = 0.05
BODY = {"source": "anna", "target": "ben", "amount": "1"}
SESSION_KEY = "c4n4ry-of-32-characters-or-more-!"


@dataclass
class Guarded:
    """A gateway process that asks who comes."""

    url: str
    keys: KeyFile

    def client(self, **options: Any) -> httpx.Client:
        """Give a client of it."""
        return httpx.Client(base_url=self.url, timeout=30, verify=TRUST, **options)


def guard(folder: Path, **given: Any) -> tuple[KeyFile, dict[str, Any]]:
    """Give a file of keys, and settings that take keys and tokens."""
    keys = KeyFile(folder)
    return keys, {
        "api_keys_file": keys.path,
        "api_keys_poll_seconds": POLL_S,
        "api_session_key": SESSION_KEY,
        "limit_failure_burst": 1_000_000,  # these tests fail on purpose, from one address
        "api_allowed_hosts": "*",
        **jwt_settings(folder),
        **given,
    }


def status(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> int:
    """Send a request; give the answer's status, and leave a stream after it."""
    content = {"json": BODY} if path == "/transactions" else {}
    with client.stream(method, path, headers=headers, **content) as answer:
        told = answer.headers.get("www-authenticate", "")
        assert (answer.status_code == 401) == (told == CHALLENGE or "invalid_token" in told)
        return answer.status_code


CHALLENGE: Final = 'Bearer realm="fraudstream"'


def form(client: httpx.Client, path: str, *, site: str = "same-origin", **fields: str) -> Any:
    """Send a form as a browser does from a page."""
    return client.post(path, data=fields, headers={"Sec-Fetch-Site": site})


def named(app: ASGIApp) -> ASGIApp:
    """Have each request come from the principal in its header `x-is`."""

    async def with_principal(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-is":
                scope[PRINCIPAL] = Principal(value.decode(), "", frozenset())
        await app(scope, receive, send)

    return with_principal
