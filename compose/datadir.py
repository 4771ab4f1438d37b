"""The data directory of one local stack: what lies where, and who may use it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compose.errors import DataDirError


@dataclass(frozen=True, slots=True)
class DataDir:
    """The places below one directory."""

    root: Path

    @property
    def kafka(self) -> Path:
        """Where the embedded brokers keep their logs and metadata."""
        return self.root / "kafka"

    @property
    def logs(self) -> Path:
        """Where the parts' logs lie."""
        return self.root / "logs"

    def log(self, part: str) -> Path:
        """Where a part's output goes."""
        return self.logs / f"{part}.log"

    def empty(self) -> None:
        """Remove what earlier runs left, and nothing else that may lie here."""
        for place in (self.kafka, self.logs):
            if place.exists():
                shutil.rmtree(place)


@contextmanager
def locked(root: Path) -> Iterator[DataDir]:
    """Hold a data directory for this process; the lock ends with the process, however it ends.

    It is made if need be.

    Raises:
        DataDirError: another process holds it, or it can't be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataDirError(f"can't use the data directory {root}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = lock.read().strip() or "unknown"
            raise DataDirError(
                f"another `fraudstream up` (process {holder}) uses {root}; "
                "stop it, or give --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield DataDir(root)
