"""`python -m loadgen` as a program: its output, its signals and its exit codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

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


def start(url: str, *options: str) -> "subprocess.Popen[str]":
    """Start the command at two hundred transactions a second."""
    argv = [sys.executable, "-m", "loadgen", "--url", url, "--tps", "200", "--accounts", "100"]
    return subprocess.Popen(
        [*argv, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def finished(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Give its exit code and what it printed on standard output and standard error."""
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def test_json_is_the_only_thing_on_standard_output(gateway: str, tmp_path: Path) -> None:
    """One object; the page and the log are written beside it; all held: exit code 0."""
    page, log = tmp_path / "run.html", tmp_path / "run.hlog"
    options = ("--duration", "1", "--verify", "--json", "--html", str(page), "--hdr", str(log))
    bounds = ("--threshold", "errors==0", "--threshold", "p50<5s", "--threshold", "lost==0")
    code, out, _ = finished(start(gateway, *options, *bounds))
    found = json.loads(out)
    assert code == 0
    assert found["accepted"] == found["verification"]["verdicts"] == 200
    assert [each["held"] for each in found["thresholds"]] == [True, True, True]
    assert "<svg" in page.read_text()
    assert "Tag=post" in log.read_text()


def test_a_threshold_that_does_not_hold_is_exit_code_1(gateway: str) -> None:
    """And the summary says which."""
    code, out, _ = finished(start(gateway, "--duration", "0.5", "--threshold", "p50<0.001us"))
    assert code == 1
    assert "NOT HELD" in out


def test_several_processes_share_one_schedule(gateway: str) -> None:
    """Two of them send what one would, each sends its own half, and every verdict is matched."""
    options = ("--duration", "1", "--processes", "2", "--verify", "--json")
    code, out, _ = finished(start(gateway, *options))
    found = json.loads(out)
    assert code == 0
    assert found["due"] == found["sent"] == found["verification"]["verdicts"] == 200


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_with_a_summary_of_what_ran(gateway: str, signum: signal.Signals) -> None:
    """Sending ends, answers and verdicts are waited for, what ran is reported: exit code 0."""
    process = start(gateway, "--duration", "0", "--verify", "--json")
    assert process.stderr is not None
    process.stderr.readline()  # the first progress line: it runs
    process.send_signal(signum)
    code, out, _ = finished(process)
    found = json.loads(out)
    assert code == 0
    assert found["due"] == found["sent"] + found["dropped"]
    assert found["sent"] == found["accepted"] == found["verification"]["verdicts"]
    assert found["sent"] > 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_reaches_every_process(gateway: str, signum: signal.Signals) -> None:
    """What ran is summed up, also where the signal is sent to all, as terminals and systemd do."""
    process = start(gateway, "--duration", "0", "--processes", "2", "--json")
    assert process.stderr is not None
    process.stderr.readline()
    os.killpg(process.pid, signum)
    code, out, _ = finished(process)
    found = json.loads(out)
    assert code == 0
    assert found["due"] == found["sent"] + found["dropped"]
    assert found["sent"] == found["accepted"] > 0


def test_no_process_outlives_its_parent(gateway: str) -> None:
    """However that dies."""
    process = start(gateway, "--duration", "0", "--processes", "2")
    assert process.stderr is not None
    process.stderr.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (len(children), [])


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_stop_before_anything_ran_is_exit_code_130(processes: str) -> None:
    """There is no summary of nothing."""
    process = start("http://127.0.0.1:9", "--wait", "30", "--processes", processes)
    assert process.stderr is not None
    assert "waiting for the gateway" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert finished(process)[:2] == (130, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--wait", "0.3"), "http://127.0.0.1:9 is not ready"),
        (("--threshold", "p98<5ms"), "'p98' is no metric"),
        (("--replay", __file__), "no known data set"),
        (("--processes", "2", "--wait", "0.3"), "http://127.0.0.1:9 is not ready"),
    ],
)
def test_what_can_t_run_is_one_line_and_exit_code_2(options: tuple[str, ...], said: str) -> None:
    """Nobody listens, or a setting is wrong."""
    code, out, err = finished(start("http://127.0.0.1:9", *options))
    last = err.splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.startswith("error: ")
    assert said in last


def test_a_file_is_replayed(gateway: str, tmp_path: Path) -> None:
    """All of it, at the set rate, without a duration."""
    path = tmp_path / "paysim.csv"
    rows = "".join(f"1,PAYMENT,{k}.50,C{k},M{k},0\n" for k in range(1, 101))
    path.write_text("step,type,amount,nameOrig,nameDest,isFraud\n" + rows)
    code, out, _ = finished(start(gateway, "--replay", str(path), "--verify", "--json"))
    found = json.loads(out)
    assert code == 0
    assert found["sent"] == found["verification"]["verdicts"] == 100
