"""The audit log: who did what that matters for security, one JSON object a line, no payloads.

Every line has `time`, `event`, `part`, and where they apply `principal` (a credential's id),
`address`, `request_id`. Where no file is set the same goes to the ordinary log, under the logger
`audit`, at every log level: who asks for few lines has not asked for less on record.

A file is only ever appended to, with one write a line, so the processes of a gateway can share it;
moved away by log rotation, it is made anew. What outsiders can bring about as often as they like is
bounded: of the same event from the same address only so many lines are written, and the next one
says how many were not (`unwritten`).
"""

import errno
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from pydantic import Field

from wire import logs
from wire.buckets import Buckets
from wire.errors import AuditError
from wire.settings import Settings

log = structlog.get_logger(__name__)
MODE: Final = 0o600
ORDINARY: Final = "-"
FLOOD_RATE: Final = 1.0
FLOOD_BURST: Final = 20
"""Lines of one event from one address: so many at once, then one a second."""
MOST_FLOODS: Final = 4_096
"""Event and address pairs whose lines are counted; that used longest ago is forgotten."""


class AuditSettings(Settings):
    """Where the audit log goes."""

    audit_log: str = Field(
        ORDINARY,
        min_length=1,
        description="file that the audit log is appended to; - : the ordinary log, at any level",
    )


class Event(StrEnum):
    """What is recorded."""

    STREAM_OPENED = "stream-opened"
    STREAM_CLOSED = "stream-closed"
    SIGNED_IN = "signed-in"
    SIGN_IN_FAILED = "sign-in-failed"
    SIGNED_OUT = "signed-out"
    DENIED = "denied"
    """A request without the credential or the scope that it needs: a 401 or 403."""
    KEY_CREATED = "key-created"
    KEY_REVOKED = "key-revoked"
    KEYS_RELOADED = "keys-reloaded"
    KEYS_REFUSED = "keys-refused"
    RULES_LOADED = "rules-loaded"
    RULES_CHANGED = "rules-changed"
    RULES_REFUSED = "rules-refused"
    CERTIFICATE_RENEWED = "certificate-renewed"
    CERTIFICATE_REFUSED = "certificate-refused"


_FLOODING: Final = frozenset((Event.SIGN_IN_FAILED, Event.DENIED))
"""What anyone can bring about, without a credential."""


class Audit:
    """Writes the audit log of one process."""

    def __init__(
        self,
        part: str = "",
        path: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the file, if there is one; `part` stands in every line.

        Raises:
            OSError: the file can't be opened.
        """
        self._part = part
        self._clock = clock
        self._path = path
        self._file: int | None = None
        self._is_cut_off = False
        self._floods = Buckets(FLOOD_RATE, FLOOD_BURST, MOST_FLOODS)
        self._unwritten: OrderedDict[tuple[Event, str], int] = OrderedDict()
        if path is not None:
            self._file = _opened(path)

    def record(
        self,
        event: Event,
        *,
        principal: str | None = None,
        address: str | None = None,
        **fields: Any,
    ) -> None:
        """Write a line; None is left out. Never raises: what can't be written is logged.

        Args:
            event: what happened.
            principal: the id of the credential it was done with; never the credential.
            address: the client's, as it is counted for limits.
            fields: more, of text, numbers and lists of them; no payloads, no secrets.
        """
        if event in _FLOODING:
            unwritten = self._flood((event, address or ""))
            if unwritten is None:
                return
            fields["unwritten"] = unwritten or None
        given = {
            "principal": principal,
            "address": address,
            "request_id": logs.request_id.get(),
            **fields,
        }
        self._put(event, {name: value for name, value in given.items() if value is not None})

    def close(self) -> None:
        """Write what was held back of floods, and close the file."""
        for (event, address), count in self._unwritten.items():
            self._put(event, {"address": address, "unwritten": count})
        self._unwritten.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _flood(self, key: tuple[Event, str]) -> int | None:
        """Count an event; give how many before it were not written, None if this one is not."""
        if not self._floods.take(key, self._clock()):
            return self._unwritten.pop(key, 0)
        self._unwritten[key] = self._unwritten.get(key, 0) + 1
        if len(self._unwritten) > MOST_FLOODS:
            self._unwritten.popitem(last=False)
        return None

    def _put(self, event: Event, line: dict[str, Any]) -> None:
        path = self._path
        if path is None:
            line.pop("request_id", None)  # each line of the ordinary log has it by itself
            structlog.get_logger("audit").info(str(event), **line)
            return
        now = datetime.now(UTC).isoformat()
        line = {"time": now, "event": str(event), "part": self._part, **line}
        try:
            if self._file is None or _was_moved(self._file, path):
                self._reopen(path)
            assert self._file is not None  # noqa: S101 - opened, or raised
            self._append(self._file, msgspec.json.encode(line) + b"\n")
        except OSError as error:
            log.error("audit log not written", cause=error.strerror, audit=line)

    def _append(self, file: int, data: bytes) -> None:
        """Write a line; after one that was cut off (a full disk), begin with that one's end."""
        if self._is_cut_off:
            data = b"\n" + data
        written = os.write(file, data)
        if written < len(data):
            self._is_cut_off = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._is_cut_off = False

    def _reopen(self, path: Path) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._file = _opened(path)
        self._is_cut_off = False


def opened(settings: AuditSettings, part: str) -> Audit:
    """Open the audit log that settings name.

    Raises:
        AuditError: it can't be opened.
    """
    if settings.audit_log == ORDINARY:
        return Audit(part)
    try:
        return Audit(part, Path(settings.audit_log))
    except OSError as error:
        raise AuditError(f"AUDIT_LOG={settings.audit_log}: {error.strerror}") from error


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(path, flags, MODE)


def _was_moved(file: int, path: Path) -> bool:
    """Tell whether another file, or none, is in the place of an open one: it was rotated."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return True
    held = os.fstat(file)
    return (there.st_ino, there.st_dev) != (held.st_ino, held.st_dev)
