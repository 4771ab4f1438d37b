"""The id of a request: its client's, or one of ours. Logs, problems and the answer carry it."""

import itertools
import re
import secrets
from functools import cache
from typing import Final

from starlette.types import Scope

HEADER: Final = b"x-request-id"
SCOPE: Final = "fraudstream.request_id"
"""Where a request's id is found in its ASGI scope, as text."""
_GIVEN: Final = re.compile(rb"[A-Za-z0-9._~:+/=@-]{1,128}").fullmatch
_numbers: Final = itertools.count(1)


def made() -> str:
    """Make an id."""
    return f"{_prefix()}-{next(_numbers):x}"


def taken(given: bytes) -> str:
    """Give a client's id, or one of ours in place of what may not stand in a log line."""
    return given.decode() if _GIVEN(given) else made()


def of(scope: Scope) -> str | None:
    """Give a request's id; None where another server runs the application."""
    return scope.get(SCOPE)


@cache  # made for the first request: by then a server that forks has done so
def _prefix() -> str:
    """Give what no other process's ids begin with."""
    return secrets.token_hex(6)
