"""Kafka's jars: what a cache, a bad download or a missing network leads to.

The repository is a real HTTP server with small files; jgo is pointed at it by its own config.
"""

import gc
import hashlib
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NoReturn

import pytest
from pydantic_core import PydanticUndefined

from compose import download, jars, settings
from compose.errors import JarsError
from compose.jars import Jar, Lock
from tests.certificates import Authority

# jgo leaves the response of a download that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
CONTENT = {"alpha": b"a" * 50_000, "beta": b"b" * 20_000}


class Repository:
    """A Maven repository with two jars, and what was asked of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self.lock = Lock(
            tuple(
                Jar("org.example", name, "1.0", hashlib.sha256(data).hexdigest(), len(data))
                for name, data in CONTENT.items()
            ),
            "example",
        )
        for name, data in CONTENT.items():
            self.put(name, data)

    def put(self, name: str, data: bytes) -> None:
        """Publish a jar."""
        file = self.root / "org/example" / name / "1.0" / f"{name}-1.0.jar"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """A running repository that jgo looks at."""
    found = Repository(tmp_path / "repository")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            found.asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(found.root)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    _point_jgo_at(f"http://127.0.0.1:{server.server_port}", tmp_path, monkeypatch)
    yield found
    server.shutdown()
    thread.join()
    server.server_close()
    gc.collect()


def test_jars_come_into_the_cache(repository: Repository, tmp_path: Path) -> None:
    """The class path names the jars in the order of the lock, with their content."""
    installation = jars.install(tmp_path / "cache", lock=repository.lock)
    assert [path.read_bytes() for path in installation.jars] == list(CONTENT.values())


def test_progress_ends_at_the_whole(repository: Repository, tmp_path: Path) -> None:
    """The report goes up and ends where done equals total."""
    told: list[tuple[int, int]] = []
    jars.install(
        tmp_path / "cache",
        lock=repository.lock,
        report=lambda done, all_: told.append((done, all_)),
    )
    assert told == sorted(told)
    assert told[-1] == (70_000, 70_000)


def test_a_complete_cache_asks_nobody(repository: Repository, tmp_path: Path) -> None:
    """The second start makes no request."""
    jars.install(tmp_path / "cache", lock=repository.lock)
    repository.asked.clear()
    jars.install(tmp_path / "cache", lock=repository.lock)
    assert repository.asked == []


def test_a_wrong_digest_is_refused(repository: Repository, tmp_path: Path) -> None:
    """A jar with other content is named, removed, and nothing is installed."""
    repository.put("beta", b"B" * 20_000)
    with pytest.raises(JarsError, match=r"org\.example:beta:1\.0 .* removed: SHA-256 "):
        jars.install(tmp_path / "cache", lock=repository.lock)
    assert not (tmp_path / "cache/example").exists()
    assert list((tmp_path / "cache").rglob("beta*.jar")) == []


def test_a_failed_download_is_taken_up_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier try has brought is not fetched again."""
    monkeypatch.setattr(download, "DOWNLOADS_AT_ONCE", 1)  # the bigger one first
    repository.put("beta", b"B" * 20_000)
    with pytest.raises(JarsError):
        jars.install(tmp_path / "cache", lock=repository.lock)
    repository.put("beta", CONTENT["beta"])
    repository.asked.clear()
    jars.install(tmp_path / "cache", lock=repository.lock)
    assert not any("alpha" in path for path in repository.asked)


def test_a_damaged_cache_is_mended(repository: Repository, tmp_path: Path) -> None:
    """A jar that was cut short is fetched again, and only that one."""
    installation = jars.install(tmp_path / "cache", lock=repository.lock)
    installation.jars[1].write_bytes(b"b")
    repository.asked.clear()
    assert jars.install(tmp_path / "cache", lock=repository.lock) == installation
    assert installation.jars[1].read_bytes() == CONTENT["beta"]
    assert not any("alpha" in path for path in repository.asked)


def test_a_mending_that_was_cut_off_is_taken_up_again(
    repository: Repository, tmp_path: Path
) -> None:
    """Between the move of the good jars and the end of the cache that was damaged."""
    installation = jars.install(tmp_path / "cache", lock=repository.lock)
    part = installation.home.with_name("example.part")
    part.mkdir()
    (installation.home / "jars").rename(part / "jars")
    (part / "jars" / "beta-1.0.jar").unlink()
    repository.asked.clear()
    assert jars.install(tmp_path / "cache", lock=repository.lock) == installation
    assert not any("alpha" in path for path in repository.asked)


def test_no_network_is_one_clear_error(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without network the error names a jar and says that it is needed once."""
    _point_jgo_at("http://127.0.0.1:1", tmp_path, monkeypatch)
    with pytest.raises(JarsError, match=r"must be downloaded once.* no network") as caught:
        jars.install(tmp_path / "cache", lock=repository.lock)
    assert "\n" not in str(caught.value)


def test_a_proxy_that_is_away_is_told(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that there is no network."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.org")
    with pytest.raises(JarsError, match=r"the proxy that the environment names can't be used"):
        jars.install(tmp_path / "cache", lock=repository.lock)


def test_a_repository_that_is_not_trusted_is_told(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a proxy signs for everybody: the error says what helps."""
    certified = Authority(tmp_path).certify("repository")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified.certificate, certified.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        _point_jgo_at(f"https://127.0.0.1:{server.server_port}", tmp_path, monkeypatch)
        with pytest.raises(JarsError, match=r"certificate is not trusted.* REQUESTS_CA_BUNDLE"):
            jars.install(tmp_path / "cache", lock=repository.lock)
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("repository")
def test_an_unknown_jar_is_named(tmp_path: Path) -> None:
    """A jar that no repository has is named."""
    unknown = Jar("org.example", "gamma", "1.0", "0" * 64, 1)
    with pytest.raises(JarsError, match=r"no repository has org\.example:gamma:1\.0"):
        jars.install(tmp_path / "cache", lock=Lock((unknown,), "example"))


def test_a_cache_that_can_not_be_written_is_named(repository: Repository, tmp_path: Path) -> None:
    """The error names the directory."""
    (tmp_path / "cache").write_text("not a directory")
    with pytest.raises(JarsError, match=r"can't be kept in .*cache"):
        jars.install(tmp_path / "cache", lock=repository.lock)


def test_two_processes_install_once(repository: Repository, tmp_path: Path) -> None:
    """Two processes that start together both end with good jars, downloaded by one of them."""
    program = (
        "import sys; from pathlib import Path; from compose.jars import Jar, Lock, install;"
        "lock = Lock(tuple(map(Jar.parse, sys.argv[2:])), 'example');"
        "found = install(Path(sys.argv[1]), lock=lock).jars;"
        "assert all(jar.is_at(path) for jar, path in zip(lock.jars, found))"
    )
    lines = [f"{jar} {jar.sha256} {jar.size}" for jar in repository.lock.jars]
    argv = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "cache"), *lines]
    root = str(Path(jars.__file__).parents[1])
    both = [subprocess.Popen(argv, env=os.environ | {"PYTHONPATH": root}) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    downloads = [path for path in repository.asked if path.endswith(".jar")]
    assert len(downloads) == len(CONTENT)


def test_the_cache_can_be_put_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """FRAUDSTREAM_CACHE_DIR says where the cache is."""
    monkeypatch.setenv("FRAUDSTREAM_CACHE_DIR", "/somewhere")
    assert jars.cache_dir() == Path("/somewhere")


def test_without_a_home_both_places_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the cache and that of the data: a service's user may have no home."""

    def nobody(_user: int) -> NoReturn:
        raise KeyError

    for name in ("HOME", "FRAUDSTREAM_CACHE_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(JarsError, match="set FRAUDSTREAM_CACHE_DIR"):
        jars.cache_dir()
    assert settings.default_data_dir() is PydanticUndefined


def test_the_committed_lock_is_whole() -> None:
    """Every locked jar has a digest; Kafka and one slf4j binding are among them."""
    lock = Lock.read()
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 0 for jar in lock.jars)
    assert {"kafka_2.13", "slf4j-simple"} < {jar.artifact for jar in lock.jars}
    assert {j.version for j in lock.jars if j.group == "org.apache.kafka"} == {jars.KAFKA_VERSION}


def _point_jgo_at(url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = directory / "jgo.conf"
    config.write_text(f"[repositories]\ncentral = {url}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
