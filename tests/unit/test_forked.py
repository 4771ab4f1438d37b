"""A program that the tests fork is the one that they would have started."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from api import listener
from tests import forked
from tests.trust import TRUST


def ended(where: Path, program: "forked.Forked | subprocess.Popen[bytes]") -> tuple[int, str]:
    """Give its exit code, and what it has printed."""
    return program.wait(40), where.read_text()


@pytest.mark.parametrize(
    ("part", "argument"),
    [*zip(forked.PARTS, ("--help", "--nonsense", "--nonsense", "--help"), strict=True)],
)
def test_it_prints_and_ends_as_one_that_was_started(
    tmp_path: Path, part: str, argument: str
) -> None:
    """By its command line and its environment."""
    env = os.environ | {"COLUMNS": "70", "API_PORT": "none"}
    one, other = tmp_path / "one", tmp_path / "other"
    with one.open("wb") as out:
        anew = subprocess.Popen(
            (sys.executable, "-m", part, argument), env=env, stdout=out, stderr=out
        )
    with other.open("wb") as out:
        fork = forked.start(part, argument, env=env, output=out.fileno())
    assert ended(other, fork) == ended(one, anew)


def test_it_has_its_environment_and_no_other(tmp_path: Path) -> None:
    """What a setting is refused for is what this one was given."""
    for value in ("seven", "eight"):
        with (tmp_path / value).open("wb") as out:
            fork = forked.start("api", env={"API_PORT": value}, output=out.fileno())
        code, text = ended(tmp_path / value, fork)
        assert (code, f"'{value}'" in text) == (2, True), text


def test_one_that_is_run_to_its_end_tells_its_outputs_apart() -> None:
    """What it printed is given with its exit code."""
    done = forked.run("api", env={"API_PORT": "seven"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "'seven'" in done.stderr


def test_it_is_ended_by_signals(tmp_path: Path) -> None:
    """The exit code tells by which; one that has ended takes no more of them."""
    with (tmp_path / "log").open("wb") as out:
        fork = forked.start(
            "detector", env=os.environ | {"KAFKA_BROKER_URL": "127.0.0.1:1"}, output=out.fileno()
        )
    with pytest.raises(subprocess.TimeoutExpired):
        fork.wait(0)
    assert fork.poll() is None
    fork.kill()
    assert fork.wait(40) == fork.poll() == -signal.SIGKILL
    fork.terminate()
    assert fork.returncode == -signal.SIGKILL


def test_no_two_make_the_same_ids(tmp_path: Path) -> None:
    """What each process takes at random is its own, though one has loaded the modules for all."""
    found = set()
    for name in ("one", "other"):
        sock = listener.bind("127.0.0.1", 0)
        with closing(sock), (tmp_path / name).open("wb") as out:
            fork = forked.start(
                "api",
                *("--api-fd", str(sock.fileno())),
                env=os.environ | {"KAFKA_BROKER_URL": "127.0.0.1:1"},
                fds=[sock.fileno()],
                output=out.fileno(),
            )
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/healthz"
            answer = httpx.get(url, timeout=40, verify=TRUST)
            found.add(answer.headers["x-request-id"].partition("-")[0])
            fork.kill()
            assert fork.wait(40) == -signal.SIGKILL
    assert len(found) == 2
