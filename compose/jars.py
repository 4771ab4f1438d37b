"""Kafka's jars: downloaded once into a per-user cache, checked against the digests in jars.lock.

A start with a complete cache touches no network and compares sizes only. What is missing is
downloaded into a directory that gets its final name when every jar in it has its digest.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import platformdirs

from compose.errors import JarsError

KAFKA_VERSION: Final = "4.3.1"
LOCK: Final = Path(__file__).with_name("jars.lock")

Report = Callable[[int, int], None]
"""Is told bytes done and bytes in all; called from other threads, one at a time."""


class Jar(NamedTuple):
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int
    """Bytes."""

    @classmethod
    def parse(cls, line: str) -> "Jar":
        """Read a line of the lock file."""
        coordinate, digest, size = line.split()
        group, artifact, version = coordinate.split(":")
        return cls(group, artifact, version, digest, int(size))

    @property
    def filename(self) -> str:
        """The name that Maven repositories give it."""
        return f"{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    def is_at(self, path: Path) -> bool:
        """Tell whether the file there has this jar's digest."""
        return path.is_file() and sha256(path) == self.sha256

    def seems_at(self, path: Path) -> bool:
        """Tell whether the file there has this jar's size: the cheap check."""
        return path.is_file() and path.stat().st_size == self.size


class Lock(NamedTuple):
    """The jars that make up Kafka, as committed."""

    jars: tuple[Jar, ...]
    edition: str
    """Names exactly this set of jars; part of the cache directory's name."""

    @classmethod
    def read(cls, path: Path = LOCK) -> "Lock":
        """Read a lock file: `group:artifact:version sha256 size` a line, `#` for comments."""
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        jars = tuple(map(Jar.parse, lines))
        digests = hashlib.sha256("\n".join(jar.sha256 for jar in jars).encode())
        return cls(jars, f"kafka-{KAFKA_VERSION}-{digests.hexdigest()[:12]}")


class Installation(NamedTuple):
    """Kafka as it lies in the cache."""

    home: Path
    """Holds the jars and what is made from them; gone when the cache is cleared."""
    jars: tuple[Path, ...]
    edition: str


def cache_dir() -> Path:
    """Give FRAUDSTREAM_CACHE_DIR, or the user's cache directory for fraudstream.

    Raises:
        JarsError: the user has no home.
    """
    given = os.environ.get("FRAUDSTREAM_CACHE_DIR")
    try:
        return Path(given).expanduser() if given else platformdirs.user_cache_path("fraudstream")
    except RuntimeError:
        raise JarsError("there is no home to keep Kafka in: set FRAUDSTREAM_CACHE_DIR") from None


def install(
    cache: Path | None = None, *, lock: Lock | None = None, report: Report | None = None
) -> Installation:
    """Give Kafka's jars, downloading what the cache lacks; safe against a second process.

    Raises:
        JarsError: no network, a jar that is not there or has another digest, no room for it.
    """
    cache = cache or cache_dir()
    lock = lock or Lock.read()
    home = cache / lock.edition
    jars = home / "jars"
    if not _complete(jars, lock):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with held(cache / f"{lock.edition}.lock"):
                if not _complete(jars, lock):  # another process may just have been here
                    _install(home, lock, report or (lambda _done, _total: None))
        except OSError as error:
            raise JarsError(f"Kafka can't be kept in {cache}: {error}") from error
    return Installation(home, tuple(jars / jar.filename for jar in lock.jars), lock.edition)


def _install(home: Path, lock: Lock, report: Report) -> None:
    # Imported here: a start from the cache needs neither jgo nor its HTTP stack.
    from compose import download  # noqa: PLC0415

    part = home.with_name(f"{home.name}.part")
    if home.exists():  # damaged: keep what is good, and nothing that was made from the rest
        if (home / "jars").is_dir():  # else an earlier try got them as far as `part`
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            (home / "jars").rename(part / "jars")
        shutil.rmtree(home)
    download.fill(part, lock.jars, report)
    part.rename(home)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file lock between processes, waiting for it; it goes when its holder dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def scratch(home: Path, name: str) -> Iterator[Path]:
    """Give a new directory in a home, removed in the end; nobody else may work by that name.

    Those that a process left, as it was killed, are removed by the next one.
    """
    for left in home.glob(f"{name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=home, prefix=f"{name}-") as directory:
        yield Path(directory)


def _complete(jars: Path, lock: Lock) -> bool:
    return all(jar.seems_at(jars / jar.filename) for jar in lock.jars)


def sha256(path: Path) -> str:
    """Give a file's digest in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
