"""Browsers' sessions: a signed cookie that says who signed in, and until when.

Nothing is kept of it here: every process that has the key to it can read it. It holds an API key's
id, never the key, and whether that key still counts is looked up for each request. Of a token it
has subject and scopes as they were at the sign-in, until the token expires.
"""

import base64
import hmac
import secrets
from typing import Final

import msgspec

from api.access.principal import Principal
from api.access.settings import AccessSettings
from api.errors import CredentialError

MAX_COOKIE_BYTES: Final = 4096
"""As much as a browser keeps (RFC 6265, 6.1)."""
SECURE_NAME: Final = "__Host-fraudstream"
"""Over HTTPS: a browser takes that prefix from nobody but this very host (RFC 6265bis, 4.1.3.2)."""
PLAIN_NAME: Final = "fraudstream"
_PURPOSE: Final = b"fraudstream session 1"


class _Content(msgspec.Struct, array_like=True):
    id: str
    name: str
    scopes: tuple[str, ...]
    expires_at: float


_decoder = msgspec.json.Decoder(_Content)


class Sessions:
    """Makes and reads the cookie's value."""

    def __init__(self, settings: AccessSettings) -> None:
        secret = settings.session_secret or secrets.token_bytes(32)
        self._key = hmac.digest(secret, _PURPOSE, "sha256")
        self._life = settings.api_session_seconds

    def issue(self, principal: Principal, now: float) -> tuple[str, int]:
        """Make a session for someone; give the cookie's value and its life in seconds."""
        ends = now + self._life
        if principal.expires_at is not None:
            ends = min(ends, principal.expires_at)
        content = msgspec.json.encode(
            _Content(principal.id, principal.name, tuple(sorted(principal.scopes)), ends)
        )
        value = base64.urlsafe_b64encode(self._mac(content) + content).rstrip(b"=")
        return value.decode(), max(0, int(ends - now))

    def read(self, value: bytes, now: float) -> Principal:
        """Give who signed in, and until when the session is good at most.

        Raises:
            CredentialError: it is none of ours, or is over.
        """
        if len(value) > MAX_COOKIE_BYTES:
            raise CredentialError("no session of this gateway")
        try:
            whole = base64.b64decode(value + b"=" * (-len(value) % 4), b"-_", validate=True)
        except ValueError as error:  # covers binascii.Error
            raise CredentialError("no session of this gateway") from error
        mac, content = whole[:32], whole[32:]
        if not hmac.compare_digest(mac, self._mac(content)):
            raise CredentialError("no session of this gateway")
        found = _decoder.decode(content)
        if now >= found.expires_at:
            raise CredentialError("the session is over")
        return Principal(found.id, found.name, frozenset(found.scopes), found.expires_at)

    def _mac(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")


def cookie_names(scheme: str) -> tuple[str, ...]:
    """Give the names a session may come under, by the scheme that a request came by.

    Over HTTPS only the prefixed one: a neighbour under the same domain could set the other.
    """
    return (SECURE_NAME,) if scheme == "https" else (SECURE_NAME, PLAIN_NAME)
