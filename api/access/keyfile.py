"""The file of API keys: what is kept of each key, read as a whole and written as a whole.

Of a key only its SHA-256 is kept. A slow hash (scrypt, Argon2) is for secrets that people think up,
so that trying the likely ones takes long; here 256 random bits make trying hopeless at any speed,
and a fast hash lets every request be checked.
"""

import base64
import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from api.access.scopes import SCOPES
from api.errors import KeyFileError

PREFIX: Final = "fs"
"""What every key begins with, so that tools that look for leaked secrets know one."""
SECRET_BYTES: Final = 32
ID_CHARACTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"
ID_LENGTH: Final = 8
MAX_KEYS: Final = 10_000
MAX_FILE_BYTES: Final = 8 << 20

Instant = Annotated[datetime, Meta(tz=True)]
KeyId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")]
KeyName = Annotated[str, Meta(min_length=1, max_length=100)]


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of one key."""

    id: KeyId
    name: KeyName
    scopes: tuple[str, ...]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    """Of the whole key as it is sent, in hexadecimal."""
    created_at: Instant
    expires_at: Instant | None = None
    revoked_at: Instant | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    keys: Annotated[list[StoredKey], Meta(max_length=MAX_KEYS)]


_decoder = msgspec.json.Decoder(_File)


def make(
    name: str, scopes: Sequence[str], expires_at: datetime | None, now: datetime
) -> tuple[str, StoredKey]:
    """Make a key; give it as it is sent, and what is to be kept of it.

    Raises:
        KeyFileError: the name is too long, or a scope is none.
    """
    key_id = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))
    secret = base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    text = f"{PREFIX}_{key_id}_{secret}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    key = StoredKey(key_id, name, tuple(sorted(set(scopes))), digest, now, expires_at)
    return text, _checked([key], "a key to be made")[0]


def read(path: Path) -> list[StoredKey]:
    """Read the keys.

    Raises:
        KeyFileError: the file can't be read, is none of ours, or everyone may write it.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise KeyFileError(f"{path} may be written by everyone: `chmod o-w` it")
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"can't read {path}: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise KeyFileError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return _checked(_decoder.decode(content).keys, str(path))
    except msgspec.ValidationError as error:  # names a place and a type, no value
        raise KeyFileError(f"{path} is no file of API keys: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeyFileError(f"{path} is no file of API keys: not JSON") from error


@contextlib.contextmanager
def changing(path: Path) -> Iterator[list[StoredKey]]:
    """Give the keys to change in place, and write them, with nobody else writing meanwhile.

    A file that is not there yet begins empty. Nothing is written if the block raises. Whoever
    could read the file before still can, and nobody else.

    Raises:
        KeyFileError: the file can't be read or written, or not left to whom it belongs.
    """
    path = path.resolve()  # a link stays one
    try:
        with path.with_name(path.name + ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _leave_to_owner(lock.fileno(), path)
            keys = read(path) if path.exists() else []
            yield keys
            _write(path, _checked(keys, str(path)))
    except OSError as error:
        raise KeyFileError(f"can't write {path}: {error.strerror}") from error


def utc_now() -> datetime:
    """Give the time, in whole seconds: that is as much as a file of keys wants to know."""
    return datetime.now(UTC).replace(microsecond=0)


def _write(path: Path, keys: list[StoredKey]) -> None:
    content = msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2) + b"\n"
    # With mode 0600, or the old one's, from its first byte on; whoever reads sees the old file or
    # the new one whole.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _leave_to_owner(file.fileno(), path)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _leave_to_owner(descriptor: int, path: Path) -> None:
    """Give a file beside another that one's owner, group and mode: a gateway must still read it."""
    try:
        kept = path.stat()
    except FileNotFoundError:
        return
    made = os.fstat(descriptor)
    try:
        if (made.st_uid, made.st_gid) != (kept.st_uid, kept.st_gid):
            os.fchown(descriptor, kept.st_uid, kept.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(kept.st_mode))
    except PermissionError as error:
        whose = f"user {kept.st_uid} and group {kept.st_gid}"
        raise KeyFileError(
            f"{path} belongs to {whose}: only they, or root, can change it"
        ) from error


def _checked(keys: list[StoredKey], where: str) -> list[StoredKey]:
    try:
        msgspec.convert([msgspec.to_builtins(each) for each in keys], list[StoredKey], strict=False)
    except msgspec.ValidationError as error:
        raise KeyFileError(f"{where}: {error}") from error
    if len(keys) > MAX_KEYS:
        raise KeyFileError(f"{where}: more than {MAX_KEYS} keys")
    if len({each.id for each in keys}) != len(keys):
        raise KeyFileError(f"{where}: an id is there twice")
    unknown = {scope for each in keys for scope in each.scopes} - SCOPES
    if unknown:
        known = ", ".join(sorted(SCOPES))
        raise KeyFileError(f"{where}: {', '.join(sorted(unknown))} is no scope; there are {known}")
    return keys
