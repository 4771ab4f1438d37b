"""JSON Web Tokens (RFC 7519) as bearer tokens: whom one stands for, by its issuer's signature.

Of the key, not of the token, is known which algorithm a signature is checked with (RFC 8725, 3.1).
"""

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import jwt

from api.access.jwks import ALGORITHMS, KeySet
from api.access.principal import MAX_CREDENTIAL_BYTES, Principal
from api.access.scopes import SCOPES
from api.access.settings import AccessSettings
from api.errors import CredentialError

MAX_SUBJECT: Final = 256
MAX_NAME: Final = 100
PRINCIPAL_PREFIX: Final = "jwt:"
_REQUIRED: Final = ["exp", "iss", "aud", "sub"]
# What reading a token can raise: its header and claims may be any JSON, of any depth and size.
_ODD: Final = (ValueError, TypeError, KeyError, OverflowError, RecursionError)


class Tokens:
    """Checks tokens; remembers the good ones until they expire."""

    def __init__(self, settings: AccessSettings) -> None:
        """Read the keys that they are signed with, if those are in a file.

        Raises:
            KeySetError: the file can't be used.
        """
        self._settings = settings
        self._good: OrderedDict[bytes, Principal] = OrderedDict()
        self.keys = KeySet(settings, self._good.clear)

    async def check(self, token: bytes, now: float) -> Principal:
        """Give whom a token stands for, at a Unix time.

        Raises:
            CredentialError: it does not count.
        """
        if len(token) > MAX_CREDENTIAL_BYTES:
            raise CredentialError(f"a token may have {MAX_CREDENTIAL_BYTES} bytes")
        digest = hashlib.sha256(token).digest()
        known = self._good.get(digest)
        if known is not None:
            if known.expires_at is not None and now < known.expires_at:
                self._good.move_to_end(digest)
                return known
            del self._good[digest]
        found = await self._checked(token)
        if found.expires_at is None or now >= found.expires_at:
            raise CredentialError("the token has expired")
        self._remember(digest, found)
        return found

    def _remember(self, digest: bytes, principal: Principal) -> None:
        self._good[digest] = principal
        if len(self._good) > self._settings.api_jwt_remembered:
            self._good.popitem(last=False)

    async def _checked(self, token: bytes) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            if "crit" in header:
                raise CredentialError("the token asks for an extension that is not understood")
            algorithm, key_id = header["alg"], header.get("kid")
            if algorithm not in ALGORITHMS:
                raise CredentialError(f"a token must be signed by one of {', '.join(ALGORITHMS)}")
            keys = await self.keys.find(key_id, algorithm)
            if not keys:
                raise CredentialError("the token is signed with a key that is not known")
            return _principal(self._claims(token, keys, algorithm), self._leeway)
        except jwt.ExpiredSignatureError as error:
            raise CredentialError("the token has expired") from error
        except (jwt.InvalidIssuerError, jwt.InvalidAudienceError) as error:
            raise CredentialError("the token is not for this gateway") from error
        except jwt.PyJWTError as error:
            raise CredentialError("the token is not valid") from error
        except _ODD as error:
            raise CredentialError("the token is malformed") from error

    def _claims(self, token: bytes, keys: Sequence[jwt.PyJWK], algorithm: str) -> dict[str, Any]:
        *others, last = keys
        for key in others:
            with contextlib.suppress(jwt.InvalidSignatureError):  # it may be another's
                return self._claims_by(key, token, algorithm)
        return self._claims_by(last, token, algorithm)

    def _claims_by(self, key: jwt.PyJWK, token: bytes, algorithm: str) -> dict[str, Any]:
        settings = self._settings
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=settings.api_jwt_issuer,
            audience=settings.api_jwt_audience,
            leeway=self._leeway,
            options={"require": _REQUIRED, "enforce_minimum_key_length": True},
        )

    @property
    def _leeway(self) -> float:
        return self._settings.api_jwt_leeway_seconds


def _principal(claims: dict[str, Any], leeway: float) -> Principal:
    subject, name = claims["sub"], claims.get("name")
    if not 0 < len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise CredentialError(f"a token's subject must be 1 to {MAX_SUBJECT} printable characters")
    if not isinstance(name, str) or not name.isprintable() or not name:
        name = subject
    expires_at = float(claims["exp"]) + leeway
    return Principal(PRINCIPAL_PREFIX + subject, name[:MAX_NAME], _scopes(claims), expires_at)


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """Give the scopes of ours: in `scope`, separated by spaces (RFC 8693, 4.2), or in `scp`."""
    given = claims.get("scope", claims.get("scp", ""))
    named = given.split() if isinstance(given, str) else given
    if not isinstance(named, list):
        raise CredentialError("a token's scopes must be a string or a list")
    return SCOPES.intersection(each for each in named if isinstance(each, str))
