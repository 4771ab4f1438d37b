"""API keys: whose key a text is, by the file of keys as it is now."""

import hmac
import secrets
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from api.access import keyfile
from api.access.keyfile import StoredKey
from api.access.principal import Principal
from api.access.scopes import METRICS_READ, STREAM_FRAUD, STREAM_LEGIT, TRANSACTIONS_WRITE
from api.access.settings import AccessSettings
from api.errors import CredentialError, KeyFileError
from api.watch import Watch
from wire.audit import Audit, Event

log = structlog.get_logger(__name__)

PREFIX: Final = b"fs_"
PRINCIPAL_PREFIX: Final = "key:"
SUPERVISOR: Final = "supervisor"
"""The id of the key that a supervisor makes for its own requests."""
_SUPERVISOR_SCOPES: Final = frozenset(
    {TRANSACTIONS_WRITE, STREAM_LEGIT, STREAM_FRAUD, METRICS_READ}
)


MAX_RECENT: Final = 1024
"""Headers with keys in them whose checks are remembered."""


class _Held(NamedTuple):
    digest: bytes
    principal: Principal
    expires_at: float
    revoked: bool = False


# Checked in place of a key that is not there, so that the time taken does not tell which ids are.
_NOBODY: Final = _Held(secrets.token_bytes(32), Principal("", "", frozenset()), float("inf"))


class Keys:
    """The keys that count, kept up with the file that they are in."""

    def __init__(self, settings: AccessSettings, audit: Audit | None = None) -> None:
        """Read the keys.

        Raises:
            KeyFileError: the file can't be used.
        """
        self._path = settings.api_keys_file
        self._audit = audit or Audit("api")
        self._own = _supervisors(settings)
        self._held: dict[bytes, _Held] = {}
        self._recent: dict[bytes, Principal] = {}
        self.on_change: list[Callable[[], None]] = []
        """Called when the file was read anew."""
        files: tuple[Path, ...] = (self._path,) if self._path is not None else ()
        self.watch = Watch(files, settings.api_keys_poll_seconds, self.reload)
        self._take(keyfile.read(self._path) if self._path is not None else ())

    def check(self, key: bytes, now: float) -> Principal:
        """Give whose key this is, at a Unix time.

        Raises:
            CredentialError: it is no key, has expired or was revoked.
        """
        parts = key.split(b"_", 2)
        held = self._held.get(parts[1], _NOBODY) if len(parts) == 3 else _NOBODY  # noqa: PLR2004
        if not hmac.compare_digest(sha256(key).digest(), held.digest):
            raise CredentialError("there is no such API key")
        return _counting(held, now)

    def recall(self, header: bytes, now: float) -> Principal | None:
        """Give whose key a header was found to hold, since the file was last read.

        By its hash: what takes time to find tells nothing of any header that was remembered.
        """
        found = self._recent.get(sha256(header).digest())
        if found is None or (found.expires_at is not None and now >= found.expires_at):
            return None
        return found

    def remember(self, header: bytes, principal: Principal) -> None:
        """Note whose key a header holds."""
        if len(self._recent) >= MAX_RECENT:
            self._recent.clear()
        self._recent[sha256(header).digest()] = principal

    def current(self, key_id: str, now: float) -> Principal:
        """Give whom a key stands for now, by the key's id.

        Raises:
            CredentialError: it is gone, has expired or was revoked.
        """
        held = self._held.get(key_id.encode())
        if held is None:
            raise CredentialError("the API key is gone")
        return _counting(held, now)

    def reload(self) -> None:
        """Take the file as it is now; if it can't be used, keep the keys and say so."""
        if self._path is None:
            return
        try:
            self._take(keyfile.read(self._path))
        except KeyFileError as error:
            log.error("API keys not loaded; the old ones are kept", error=str(error))
            self._audit.record(Event.KEYS_REFUSED, file=str(self._path))
            return
        log.info("API keys loaded", path=str(self._path), keys=len(self._held))
        self._audit.record(Event.KEYS_RELOADED, file=str(self._path), keys=len(self._held))
        for tell in self.on_change:
            tell()

    def _take(self, keys: Iterable[StoredKey]) -> None:
        self._held = {each.id.encode(): _held(each) for each in keys} | self._own
        self._recent.clear()


def _counting(held: _Held, now: float) -> Principal:
    if held.revoked:
        raise CredentialError("the API key was revoked")
    if now >= held.expires_at:
        raise CredentialError("the API key has expired")
    return held.principal


def _held(key: StoredKey) -> _Held:
    expires_at = key.expires_at.timestamp() if key.expires_at is not None else None
    principal = Principal(PRINCIPAL_PREFIX + key.id, key.name, frozenset(key.scopes), expires_at)
    return _Held(
        bytes.fromhex(key.sha256),
        principal,
        float("inf") if expires_at is None else expires_at,
        key.revoked_at is not None,
    )


def supervisors_key() -> str:
    """Make a key for a supervisor's own requests, that lives as long as the processes it starts."""
    return f"{keyfile.PREFIX}_{SUPERVISOR}_{secrets.token_urlsafe(keyfile.SECRET_BYTES)}"


def _supervisors(settings: AccessSettings) -> dict[bytes, _Held]:
    given = settings.api_supervisor_key
    if given is None:
        return {}
    digest = sha256(given.get_secret_value().encode()).digest()
    principal = Principal(PRINCIPAL_PREFIX + SUPERVISOR, SUPERVISOR, _SUPERVISOR_SCOPES)
    return {SUPERVISOR.encode(): _Held(digest, principal, float("inf"))}
