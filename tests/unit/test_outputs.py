"""Outputs whose reader has gone, or that were never open."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

GIVEN: Final = 3
FULL: Final = Path("/dev/full")
LOGS: Final = (
    "import structlog; from wire import logs; from wire.settings import Settings;"
    "logs.configure(Settings(), 'api'); structlog.get_logger().warning('one')"
)
PRINTS: Final = "from wire import outputs; outputs.line('one'); outputs.line('two')"
OPENS: Final = (
    "import os, sys; from wire import outputs; outputs.open_all(); r, w = os.pipe();"
    "assert min(r, w) > 2; print('out'); print('err', file=sys.stderr)"
)


def ended(code: str, **streams: int) -> int:
    """Give the exit code of a program that ends by itself with GIVEN."""
    argv = (sys.executable, "-c", f"{code}; raise SystemExit({GIVEN})")
    return subprocess.run(argv, check=False, **streams).returncode


@pytest.mark.parametrize(("code", "stream"), [(LOGS, "stderr"), (PRINTS, "stdout")])
def test_what_nobody_reads_changes_no_exit_code(code: str, stream: str) -> None:
    """Python gives 120 where what is buffered can't be written at the end."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert ended(code, **{stream: writer}) == GIVEN
    finally:
        os.close(writer)


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_told_of() -> None:
    """What was to be printed is not; the error says so, and is none of Python's own at its end."""
    with FULL.open("w") as full:
        argv = (sys.executable, "-c", PRINTS)
        found = subprocess.run(argv, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 1
    assert found.stderr.endswith("OutputError: standard output: No space left on device\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_was_closed_is_open_to_nowhere(closed: str) -> None:
    """No file or connection is taken for an output."""
    argv = ("sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, OPENS)
    assert subprocess.run(argv, check=False, stdout=subprocess.DEVNULL).returncode == 0
