"""Detectors and gateways keep the memory that a batch has freed."""

import platform
import subprocess
import sys

BLOCK_BYTES = 8 * 2**20
TAKE_AND_FREE = f"""
import resource
from wire import memory
kept = memory.keep_freed()
faults = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x") * {BLOCK_BYTES}
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(kept), *faults)
"""


def test_a_block_that_was_freed_is_there_for_the_next() -> None:
    """Where the C library is glibc, the kernel is asked for a block's pages once, not each time."""
    command = [sys.executable, "-c", TAKE_AND_FREE]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kept, first, second = map(int, output.split())
    assert (platform.libc_ver()[0] == "glibc") == bool(kept)
    assert not kept or second < first / 2
