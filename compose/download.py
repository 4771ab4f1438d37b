"""Downloads of Kafka's jars through jgo, which resolves Maven coordinates without Maven.

Where it looks is jgo's default unless `jgo.conf` says otherwise; the proxy variables count.

`python -m compose.download` resolves the wanted coordinates anew and writes jars.lock.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Final

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext, PythonResolver

from compose import jars
from compose.errors import JarsError
from compose.jars import KAFKA_VERSION, LOCK, Jar, Report, sha256

# Kafka 4.3 logs through slf4j 1.7; its smallest binding writes lines to a stream, which is all
# that a child process needs.
WANTED: Final = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.slf4j:slf4j-simple:1.7.36",
)
DOWNLOADS_AT_ONCE: Final = 4
TIMEOUT_S: Final = 60
"""Longest silence of a server during a download."""
_SCOPES: Final = (None, "compile", "runtime")


def fill(part: Path, wanted: Sequence[Jar], report: Report) -> None:
    """Bring every jar into `part/jars`, keeping those that an earlier try left there.

    Raises:
        JarsError: no network, a jar that is not there, or one with another digest.
    """
    downloads, target = part / "downloads", part / "jars"
    shutil.rmtree(downloads, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in wanted if not jar.is_at(target / jar.filename)]
    progress = _Progress(sum(jar.size for jar in wanted), report)
    progress.add(progress.total - sum(jar.size for jar in missing))
    missing.sort(key=lambda jar: -jar.size)  # no big one is left for the end
    context = _maven(downloads, progress)
    pool = ThreadPoolExecutor(DOWNLOADS_AT_ONCE)
    try:
        for fetched in as_completed([pool.submit(_fetch, context, jar, target) for jar in missing]):
            fetched.result()
    finally:
        progress.stopped = True
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(downloads, ignore_errors=True)


def relock(path: Path = LOCK) -> jars.Lock:
    """Resolve the wanted coordinates with their dependencies, download all, write the lock file."""
    with TemporaryDirectory() as scratch:
        context = _maven(Path(scratch), None)
        inputs = [context.create_dependency(coordinate) for coordinate in WANTED]
        found, transitive = context.resolver.resolve(inputs)
        kept = [d.artifact for d in (*found, *transitive) if d.scope in _SCOPES]
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            files = list(pool.map(lambda artifact: artifact.resolve(), kept))
        lines = sorted(
            f"{a.groupId}:{a.artifactId}:{a.version} {sha256(file)} {file.stat().st_size}"
            for a, file in zip(kept, files, strict=True)
        )
    head = "# Kafka's jars: coordinate, SHA-256, bytes. Written by `python -m compose.download`.\n"
    path.write_text(head + "".join(f"{line}\n" for line in lines))
    return jars.Lock.read(path)


def _fetch(context: Any, jar: Jar, target: Path) -> None:
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    try:
        file = artifact.resolve()
    except requests.RequestException as error:
        raise JarsError(
            f"Kafka must be downloaded once, and {jar} can't be: {_cause(error)}"
        ) from error
    except RuntimeError as error:  # jgo's way to say that no repository has it
        raise JarsError(f"Kafka must be downloaded once, and no repository has {jar}") from error
    if (actual := sha256(file)) != jar.sha256:
        file.unlink()
        raise JarsError(
            f"{jar} came with another content than the locked one and was removed:"
            f" SHA-256 {actual}, expected {jar.sha256}"
        )
    file.rename(target / jar.filename)


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return f"the repository does not answer within {TIMEOUT_S} s"
    # These two are ConnectionErrors.
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "the repository's certificate is not trusted; if there is a proxy that looks into TLS, "
            "set REQUESTS_CA_BUNDLE to a file with its authority"
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy that the environment names can't be used"
    if isinstance(error, requests.ConnectionError):
        return "no network, or the repository can't be reached"
    return str(error)


class _Progress:
    """Adds up bytes over all downloads, in the form that jgo calls; stops them when told."""

    def __init__(self, total: int, report: Report) -> None:
        self.total = total
        self.stopped = False
        self._done = 0
        self._report = report
        self._lock = Lock()

    @contextmanager
    def __call__(self, _filename: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield self.add

    def add(self, count: int) -> None:
        if self.stopped:
            raise JarsError("the download was stopped")
        with self._lock:
            self._done += count
            self._report(self._done, self.total)


def _maven(repo_cache: Path, progress: _Progress | None) -> Any:
    return MavenContext(
        resolver=PythonResolver(progress_callback=progress),
        repo_cache=repo_cache,
        remote_repos={"central": MAVEN_CENTRAL_URL} | GlobalSettings.load().repositories,
        timeout=TIMEOUT_S,
    )


if __name__ == "__main__":
    sys.stdout.write(f"{len(relock().jars)} jars locked\n")
