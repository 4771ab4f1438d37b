"""The JWK Set (RFC 7517) of those who sign tokens: from a file, or from a URL that is asked again.

PyJWT's own client of such URLs blocks, and asks again for every token that names an unknown key.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from api.access.settings import AccessSettings
from api.errors import KeySetError
from api.watch import Watch
from wire import tls
from wire.errors import AccessError

log = structlog.get_logger(__name__)

ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
"""Signatures by a private key only: what can be checked here could not be made here."""
MIN_RSA_BITS: Final = 2048
MAX_SET_BYTES: Final = 256 << 10
MAX_KEYS: Final = 100
FETCH_S: Final = 5.0
"""Time that the URL gets to answer in."""

MAX_ALIKE: Final = 4
"""Keys of one id, or of none, and one algorithm: each is tried on a token that names no other."""

KeysOf = Mapping[tuple[str | None, str], Sequence[jwt.PyJWK]]
"""By key id and algorithm."""


class KeySet:
    """The public keys that tokens are checked with, kept up with where they come from."""

    def __init__(self, settings: AccessSettings, on_change: Callable[[], None]) -> None:
        """Read the keys, if they are in a file; `on_change` is called when they are others.

        Raises:
            KeySetError: the file can't be used.
        """
        self._settings = settings
        self._on_change = on_change
        self._keys: KeysOf = {}
        self._content = b""
        self._fetching: asyncio.Task[None] | None = None
        self._fetched_at = -float("inf")
        path = settings.api_jwt_jwks_file
        self.watch = Watch((path,), settings.api_keys_poll_seconds, self._reload) if path else None
        if path is not None:
            self._take(self._read())

    async def find(self, key_id: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        """Give the keys that may be the one a token names, which is nearly always one.

        A key that is not known may be a new one: the URL is asked, if it was not just now.
        """
        found = self._find(key_id, algorithm)
        if not found and self._settings.api_jwt_jwks_url is not None:
            pause = self._settings.api_jwt_unknown_key_seconds
            if self._fetching is not None or time.monotonic() - self._fetched_at >= pause:
                await asyncio.wait({self._fetch()})  # others wait for it, too: it goes on
                found = self._find(key_id, algorithm)
        return found

    async def run(self) -> None:
        """Keep the keys up until cancelled."""
        while self.watch is None:
            await asyncio.wait({self._fetch()})
            await asyncio.sleep(self._settings.api_jwt_refresh_seconds)
        await self.watch.run()

    def _find(self, key_id: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
        if key_id is None and len(self._keys) == 1:  # it need not be named
            ((_, of), keys) = next(iter(self._keys.items()))
            return keys if of == algorithm else ()
        return self._keys.get((key_id, algorithm), ())

    def _fetch(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._ask(), name="JWK Set")
            self._fetching.add_done_callback(self._fetch_done)
        return self._fetching

    def _fetch_done(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        self._fetched_at = time.monotonic()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("JWK Set not fetched", exc_info=error)

    async def _ask(self) -> None:
        url = self._settings.api_jwt_jwks_url or ""
        try:
            async with asyncio.timeout(FETCH_S):
                self._take(await self._download(url))
        except (KeySetError, httpx.HTTPError, OSError) as error:  # TimeoutError is an OSError
            cause = str(error) or type(error).__name__
            log.error("JWK Set not fetched; the old one is kept", url=url, error=cause)

    async def _download(self, url: str) -> bytes:
        try:  # apart: reading the system's authorities takes tens of milliseconds
            cafile = self._settings.api_jwt_cafile
            trust = await asyncio.to_thread(tls.trusting, cafile, "API_JWT_CAFILE")
        except AccessError as error:
            raise KeySetError(str(error)) from error
        async with (
            httpx.AsyncClient(verify=trust, timeout=FETCH_S) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise KeySetError(f"it answers {answer.status_code}")
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_SET_BYTES:
                    raise KeySetError(f"it is larger than {MAX_SET_BYTES} bytes")
        return bytes(content)

    def _read(self) -> bytes:
        path = self._settings.api_jwt_jwks_file
        assert path is not None  # noqa: S101 - asked for only where there is one
        try:
            with path.open("rb") as file:
                return file.read(MAX_SET_BYTES + 1)
        except OSError as error:
            raise KeySetError(f"can't read {path}: {error.strerror}") from error

    def _reload(self) -> None:
        try:
            self._take(self._read())
        except KeySetError as error:
            log.error("JWK Set not loaded; the old one is kept", error=str(error))

    def _take(self, content: bytes) -> None:
        if content == self._content:
            return
        self._keys = parse(content)
        self._content = content
        log.info("JWK Set loaded", keys=[each for each, _ in self._keys])
        self._on_change()


def parse(content: bytes) -> KeysOf:
    """Read the keys of a set that tokens may be signed with; others in it are passed over.

    Raises:
        KeySetError: it is no JWK Set, or has none.
    """
    if len(content) > MAX_SET_BYTES:
        raise KeySetError(f"a JWK Set larger than {MAX_SET_BYTES} bytes")
    try:
        given = msgspec.json.decode(content, type=dict[str, Any])["keys"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise KeySetError("no JWK Set: not a JSON object with `keys`") from error
    if not isinstance(given, list) or len(given) > MAX_KEYS:
        raise KeySetError(f"no JWK Set: `keys` is no list of {MAX_KEYS} keys or fewer")
    keys: dict[tuple[str | None, str], list[jwt.PyJWK]] = {}
    for key in filter(None, map(_usable, given)):
        alike = keys.setdefault((key.key_id, key.algorithm_name), [])
        if len(alike) < MAX_ALIKE:
            alike.append(key)
        else:
            log.warning("a key of the JWK Set is one too many", kid=key.key_id, most=MAX_ALIKE)
    if not keys:
        raise KeySetError(f"the JWK Set has no key for any of {', '.join(ALGORITHMS)}")
    return keys


def _usable(given: Any) -> jwt.PyJWK | None:
    if not isinstance(given, dict) or not _is_to_verify(given):
        return None
    try:
        key = jwt.PyJWK(given)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        log.warning("a key of the JWK Set can't be used", error=type(error).__name__)
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
        log.warning("a key of the JWK Set is too short", bits=key.key.key_size)
        return None
    return key if key.algorithm_name in ALGORITHMS else None


def _is_to_verify(given: dict[str, Any]) -> bool:
    """Tell whether a key is a public one, for signatures.

    One that stands there with its private part is not: whoever signs with it is not alone.
    """
    return (
        given.get("kty") in ("RSA", "EC", "OKP")
        and "d" not in given
        and given.get("use", "sig") == "sig"
        and given.get("key_ops", ["verify"]) == ["verify"]
        and isinstance(given.get("kid", ""), str)
    )
