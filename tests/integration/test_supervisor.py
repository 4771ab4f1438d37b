"""The supervisor: parts are restarted, given up, stopped in time, and never outlive it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from compose import leash
from compose.child import Part
from compose.datadir import locked
from compose.errors import DataDirError, PartFailedError
from compose.supervisor import DEATHS_IN_A_ROW, Supervisor

DEADLINE_S = 20.0
SLEEP = "import time; print('up', flush=True); time.sleep(99)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


def part(log: Path, code: str, *arguments: str, **options: Any) -> Part:
    """Make a part that runs a line of Python."""
    return Part(log.stem, (sys.executable, "-c", code, *arguments), log, **options)


def processes(word: str) -> list[psutil.Process]:
    """Find live processes by a word of their command line."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if word in (process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


async def test_a_killed_part_comes_back(tmp_path: Path) -> None:
    """After SIGKILL a new process runs the same part, and its output goes on in the same log."""
    log = tmp_path / "part.log"
    supervisor = Supervisor()
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(99)"
    supervisor.start(part(log, code))
    await until(lambda: log.exists() and log.read_text().count("\n") == 1)
    os.kill(int(log.read_text()), signal.SIGKILL)
    await until(lambda: log.read_text().count("\n") == 2)
    await supervisor.stop()
    assert [psutil.pid_exists(int(pid)) for pid in log.read_text().split()] == [False, False]


async def test_a_part_that_keeps_dying_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is clear: which part, its exit code and its log."""
    monkeypatch.setattr("compose.supervisor.LONGEST_PAUSE_S", 0.01)
    log = tmp_path / "part.log"
    supervisor = Supervisor()
    supervisor.start(part(log, "import sys; print('tried', flush=True); sys.exit(3)"))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(PartFailedError, match=r"part died .* \(last exit code 3\).*part\.log"):
            await supervisor.failure()
    await supervisor.stop()
    assert log.read_text() == "tried\n" * DEATHS_IN_A_ROW


async def test_a_part_with_bad_settings_is_given_up_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would not help: what it said last is the cause."""
    monkeypatch.setattr("compose.supervisor.SETTLED_AFTER_S", DEADLINE_S)
    supervisor = Supervisor()
    code = "import sys; print('error: A=b: expected c', file=sys.stderr, flush=True); sys.exit(2)"
    supervisor.start(part(tmp_path / "part.log", code))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(PartFailedError, match=r"^part can't be started: A=b: expected c$"):
            await supervisor.failure()
    await supervisor.stop()
    assert (tmp_path / "part.log").read_text().count("error") == 1


async def test_a_part_that_had_come_up_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings were good: what it lacks for a moment, such as a file, may come back."""
    monkeypatch.setattr("compose.supervisor.SETTLED_AFTER_S", 0.0)
    lines: list[str] = []
    supervisor = Supervisor()
    code = "import sys; print('tried', flush=True); sys.exit(2)"
    supervisor.start(part(tmp_path / "part.log", code, on_line=lines.append))
    await until(lambda: len(lines) > 1)
    await supervisor.stop()


async def test_a_part_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    """SIGTERM ignored ends in SIGKILL after the part's own time."""
    lines: list[str] = []
    supervisor = Supervisor()
    log = tmp_path / "part.log"
    supervisor.start(part(log, STUBBORN, "stubborn", stop_seconds=0.2, on_line=lines.append))
    await until(lambda: lines == ["up"])
    await supervisor.stop()
    assert processes("stubborn") == []


async def test_kill_reaches_a_part_that_is_being_stopped(tmp_path: Path) -> None:
    """A second Ctrl-C does not wait for a part that takes its time."""
    lines: list[str] = []
    supervisor = Supervisor()
    log = tmp_path / "part.log"
    supervisor.start(part(log, STUBBORN, "slow-end", stop_seconds=99, on_line=lines.append))
    await until(lambda: lines == ["up"])
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    supervisor.kill()
    async with asyncio.timeout(DEADLINE_S):
        await stopping
    assert processes("slow-end") == []


async def test_a_part_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    """What the system refuses ends the stack with its name and cause instead of a silent wait."""
    supervisor = Supervisor()
    supervisor.start(Part("part", ("true",), tmp_path / "part.log", pass_fds=(99_999,)))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(PartFailedError, match=r"^part can't be started: Bad file descriptor$"):
            await supervisor.failure()
    await supervisor.stop()


async def test_parts_are_stopped_by_the_beginning_of_their_names(tmp_path: Path) -> None:
    """Ordered stop: one group of parts ends while another goes on."""
    names = ("sort-a-1", "sort-a-2", "sort-b-1")
    supervisor = Supervisor()
    for name in names:
        supervisor.start(part(tmp_path / f"{name}.log", SLEEP, name))
    await until(lambda: all(processes(name) for name in names))
    await supervisor.stop("sort-a")
    assert [len(processes(name)) for name in names] == [0, 0, 1]
    await supervisor.stop()
    assert processes("sort-b-1") == []


@pytest.mark.parametrize("platform", ["linux", "darwin"])
async def test_no_part_outlives_a_killed_supervisor(tmp_path: Path, platform: str) -> None:
    """SIGKILL of the supervisor takes its parts with it, even one that ignores SIGTERM.

    Where a watcher sees to that, it holds nothing that is the part's: no output, no socket.
    """
    log = tmp_path / "part.log"
    there = tmp_path / "leash.py"
    there.write_text(
        f"import runpy, sys; sys.platform = {platform!r};"
        f"runpy.run_path({leash.__file__!r}, run_name='__main__')"
    )
    script = f"""
import asyncio, pathlib, sys
from compose import leash
from compose.child import Part
from compose.supervisor import Supervisor

leash.__file__ = {str(there)!r}

async def main():
    argv = (sys.executable, "-c", {STUBBORN!r}, "orphan")
    supervisor = Supervisor()
    supervisor.start(Part("part", argv, pathlib.Path({str(log)!r})))
    await asyncio.sleep(99)

asyncio.run(main())
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    await until(lambda: log.exists() and log.read_text() == "up\n")
    (part,) = psutil.Process(supervisor.pid).children()
    watchers = part.children()
    assert len(watchers) == (platform == "darwin")
    await until(lambda: not any(watcher.num_fds() for watcher in watchers))
    supervisor.kill()
    await supervisor.wait()
    await until(lambda: processes("orphan") == [])


ORDERLY = """
import signal, sys, time
def end(*_):
    time.sleep(0.2)
    print("ended in order", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(99)
"""
HEEDS_HANGUPS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # nohup pytest
FOREGROUND = """
import asyncio, pathlib, sys
from compose import foreground
from compose.child import Part
from compose.screen import Screen

screen = Screen()

async def start(supervisor):
    argv = (sys.executable, "-c", {code!r})
    supervisor.start(Part("part", argv, pathlib.Path({log!r}), on_line=screen.line))

asyncio.run(foreground.run(start, ("part",), screen))
"""


async def test_a_closed_terminal_ends_the_parts_in_order(tmp_path: Path) -> None:
    """SIGHUP, told twice and with nobody to hear what is said, is no kill."""
    log = tmp_path / "part.log"
    reader, writer = os.pipe()
    os.close(reader)
    script = HEEDS_HANGUPS + FOREGROUND.format(code=ORDERLY, log=str(log))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=writer, stderr=writer
    )
    os.close(writer)
    await until(lambda: log.exists() and log.read_text() == "up\n")
    process.send_signal(signal.SIGHUP)
    await asyncio.sleep(0.05)  # the second one comes while the part ends
    process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(DEADLINE_S):
        assert await process.wait() == 0
    assert log.read_text() == "up\nended in order\n"


async def test_what_nohup_has_started_outlives_the_terminal(tmp_path: Path) -> None:
    """SIGHUP that was ignored at the start stays so."""
    log = tmp_path / "part.log"
    script = FOREGROUND.format(code=ORDERLY, log=str(log))
    process = await asyncio.create_subprocess_exec(
        "nohup", sys.executable, "-c", script, cwd=tmp_path
    )
    await until(lambda: log.exists() and log.read_text() == "up\n")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):  # longer than the part takes to end
            await process.wait()
    assert log.read_text() == "up\n"
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        assert await process.wait() == 0
    assert log.read_text() == "up\nended in order\n"


async def test_a_part_goes_on_when_its_lines_can_be_passed_on_no_more(tmp_path: Path) -> None:
    """Its output is still taken off the pipe, and kept."""
    log = tmp_path / "part.log"

    def gone(_line: str) -> None:
        raise BrokenPipeError

    supervisor = Supervisor()
    code = f"for _ in range(2000): print('x' * 99)\n{SLEEP}"
    supervisor.start(part(log, code, on_line=gone))
    await until(lambda: log.exists() and log.read_text().endswith("up\n"))
    await supervisor.stop()


async def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that talks without end fills no disk: its log is rotated, one older file is kept."""
    monkeypatch.setattr("compose.child.LOG_BYTES", 10_000)
    lines: list[str] = []
    code = f"for _ in range(1000): print('x' * 99)\n{SLEEP}"
    supervisor = Supervisor()
    supervisor.start(part(tmp_path / "part.log", code, on_line=lines.append))
    await until(lambda: lines and lines[-1] == "up")
    await supervisor.stop()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["part.log", "part.log.1"]
    assert max(file.stat().st_size for file in files) <= 10_000


async def test_a_log_that_cannot_be_written_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """On a full disk the part goes on, is started again, and one line tells the cause."""
    lines: list[str] = []
    supervisor = Supervisor()
    code = "for n in range(500): print('line', n, flush=True)"
    supervisor.start(part(Path("/dev/full"), code, on_line=lines.append))
    await until(lambda: len(lines) > 500)
    await supervisor.stop()
    told = capfd.readouterr()
    assert "No space left on device" in told.out
    assert "Traceback" not in told.out + told.err


async def test_a_line_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output without newlines is kept in pieces; the part is not held up."""
    monkeypatch.setattr("compose.child.LINE_BYTES", 1000)
    lines: list[str] = []
    supervisor = Supervisor()
    code = f"print('x' * 500_000)\n{SLEEP}"
    supervisor.start(part(tmp_path / "part.log", code, on_line=lines.append))
    await until(lambda: lines and lines[-1] == "up")
    await supervisor.stop()
    assert "".join(lines) == "x" * 500_000 + "up"


def test_a_data_directory_has_one_user(tmp_path: Path) -> None:
    """The second `up` on the same data is told who has it; afterwards it is free again."""
    refused = pytest.raises(DataDirError, match=rf"process {os.getpid()}\) uses")
    with locked(tmp_path / "data"), refused, locked(tmp_path / "data"):
        pass
    with locked(tmp_path / "data") as data:
        assert data.root == tmp_path / "data"


def test_fresh_removes_only_what_runs_left(tmp_path: Path) -> None:
    """A file of the user's in the data directory stays."""
    for name in ("kafka", "logs", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    with locked(tmp_path) as data:
        data.empty()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "up.lock"]


def test_an_unusable_data_directory_is_one_clear_error(tmp_path: Path) -> None:
    """A file in the directory's place is named."""
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="file"), locked(tmp_path / "file"):
        pass
