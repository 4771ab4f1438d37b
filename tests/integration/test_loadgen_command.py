"""`python -m loadgen` as a program: its output, its signals and its exit codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests import forked
from tests.processes import until

STANDIN = Path(__file__).with_name("loadgen_standin.py")
DEADLINE_S = 40


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    """The address of a stand-in that does all as it should."""
    process = subprocess.Popen([sys.executable, str(STANDIN)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Run:
    """The command at two hundred transactions a second, with what it prints in files."""

    def __init__(self, here: Path, url: str, *options: str) -> None:
        self._out, self._err = here / "out", here / "err"
        argv = ("--url", url, "--tps", "200", "--accounts", "100", *options)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = forked.start(
                "loadgen", *argv, env=os.environ, output=out.fileno(), errors=err.fileno()
            )

    def first_line(self) -> str:
        """Wait for what it tells first on standard error."""
        until(lambda: "\n" in self._err.read_text())
        return self._err.read_text().splitlines()[0]

    def finished(self) -> tuple[int, str, str]:
        """Give its exit code and what it printed on standard output and standard error."""
        code = self.process.wait(DEADLINE_S)
        return code, self._out.read_text(), self._err.read_text()

    def signal_all(self, signum: int) -> None:
        """Send a signal to it and its processes, as terminals and systemd do."""
        process = psutil.Process(self.process.pid)
        for each in (*process.children(recursive=True), process):
            each.send_signal(signum)


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command; what is left of it at the end is killed."""
    with ExitStack() as held:

        def run(*argv: str) -> Run:
            made = Run(tmp_path, *argv)
            held.callback(made.process.wait)
            held.callback(made.process.kill)
            return made

        yield run


def test_json_is_the_only_thing_on_standard_output(
    start: Start, gateway: str, tmp_path: Path
) -> None:
    """One object; the page and the log are written beside it; all held: exit code 0."""
    page, log = tmp_path / "run.html", tmp_path / "run.hlog"
    options = ("--duration", "1", "--verify", "--json", "--html", str(page), "--hdr", str(log))
    bounds = ("--threshold", "errors==0", "--threshold", "p50<5s", "--threshold", "lost==0")
    code, out, _ = start(gateway, *options, *bounds).finished()
    found = json.loads(out)
    assert code == 0
    assert found["accepted"] == found["verification"]["verdicts"] == 200
    assert [each["held"] for each in found["thresholds"]] == [True, True, True]
    assert "<svg" in page.read_text()
    assert "Tag=post" in log.read_text()


def test_a_run_that_nobody_reads_goes_on_to_its_end(gateway: str, tmp_path: Path) -> None:
    """Its output and its progress go to a `head` that has ended; the page is written."""
    page = tmp_path / "run.html"
    options = ("--url", gateway, "--tps", "50", "--duration", "1.5", "--html", str(page))
    reader, writer = os.pipe()
    os.close(reader)
    process = forked.start("loadgen", *options, env=os.environ, output=writer, errors=writer)
    os.close(writer)
    assert process.wait(DEADLINE_S) == 0
    assert "passed" in page.read_text()


def test_a_threshold_that_does_not_hold_is_exit_code_1(start: Start, gateway: str) -> None:
    """And the summary says which. What was due is told by the time of the schedule."""
    options = ("--tps", "4", "--duration", "0.5", "--threshold", "p50<0.001us")
    code, out, _ = start(gateway, *options).finished()
    assert code == 1
    assert "NOT HELD" in out
    assert "of 4.0/s due, for 0.5 s" in out


def test_several_processes_share_one_schedule(start: Start, gateway: str) -> None:
    """Two of them send what one would, each sends its own half, and every verdict is matched."""
    options = ("--duration", "1", "--processes", "2", "--verify", "--json")
    code, out, _ = start(gateway, *options).finished()
    found = json.loads(out)
    assert code == 0
    assert found["due"] == found["sent"] == found["verification"]["verdicts"] == 200


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_with_a_summary_of_what_ran(
    start: Start, gateway: str, signum: signal.Signals
) -> None:
    """Sending ends, answers and verdicts are waited for, what ran is reported: exit code 0."""
    run = start(gateway, "--duration", "0", "--verify", "--json")
    run.first_line()  # of progress: it runs
    run.process.send_signal(signum)
    code, out, _ = run.finished()
    found = json.loads(out)
    assert code == 0
    assert found["due"] == found["sent"] + found["dropped"]
    assert found["sent"] == found["accepted"] == found["verification"]["verdicts"]
    assert found["sent"] > 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_every_process(start: Start, gateway: str, signum: signal.Signals) -> None:
    """What ran is summed up, also where the signal is sent to all of them."""
    run = start(gateway, "--duration", "0", "--processes", "2", "--json")
    run.first_line()
    run.signal_all(signum)
    code, out, _ = run.finished()
    found = json.loads(out)
    assert code == 0
    assert found["due"] == found["sent"] + found["dropped"]
    assert found["sent"] == found["accepted"] > 0


def test_no_process_outlives_its_parent(start: Start, gateway: str) -> None:
    """However that dies."""
    run = start(gateway, "--duration", "0", "--processes", "2")
    run.first_line()
    children = psutil.Process(run.process.pid).children(recursive=True)
    assert len(children) >= 2
    run.process.kill()
    run.process.wait(DEADLINE_S)
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (len(children), [])


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_stop_before_anything_ran_is_exit_code_130(start: Start, processes: str) -> None:
    """There is no summary of nothing."""
    run = start("http://127.0.0.1:9", "--wait", "30", "--processes", processes)
    assert "waiting for the gateway" in run.first_line()
    run.process.send_signal(signal.SIGINT)
    assert run.finished()[:2] == (130, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--wait", "0.3"), "http://127.0.0.1:9 is not ready"),
        (("--threshold", "p98<5ms"), "'p98' is no metric"),
        (("--replay", __file__), "no known data set"),
        (("--processes", "2", "--wait", "0.3"), "http://127.0.0.1:9 is not ready"),
    ],
)
def test_what_can_t_run_is_one_line_and_exit_code_2(
    start: Start, options: tuple[str, ...], said: str
) -> None:
    """Nobody listens, or a setting is wrong."""
    code, out, err = start("http://127.0.0.1:9", *options).finished()
    last = err.splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.startswith("error: ")
    assert said in last


def test_a_file_is_replayed(start: Start, gateway: str, tmp_path: Path) -> None:
    """All of it, at the set rate, without a duration."""
    path = tmp_path / "paysim.csv"
    rows = "".join(f"1,PAYMENT,{k}.50,C{k},M{k},0\n" for k in range(1, 101))
    path.write_text("step,type,amount,nameOrig,nameDest,isFraud\n" + rows)
    code, out, _ = start(gateway, "--replay", str(path), "--verify", "--json").finished()
    found = json.loads(out)
    assert code == 0
    assert found["sent"] == found["verification"]["verdicts"] == 100
