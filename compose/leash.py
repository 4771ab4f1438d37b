"""Runs a command that dies with the process that started it, however that one dies.

    python leash.py SUPERVISOR_PID COMMAND [ARG ...]

On Linux the kernel does it (prctl PR_SET_PDEATHSIG, which survives exec). Elsewhere a forked
watcher looks for the supervisor twice a second. The command replaces this process, so that its
own command line is what `ps` shows. It is run by path with `-I -S`: nothing but the standard
library, for a start of a few milliseconds.
"""

import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
WATCH_EVERY_S = 0.5


def main() -> None:
    """Put this process on the leash and become the command."""
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        _die_with_parent()
    else:
        _watch(supervisor)
    if os.getppid() != supervisor:  # it died before the leash was on
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command is the caller's own


def _die_with_parent() -> None:
    import ctypes  # noqa: PLC0415 - needed on Linux only

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _watch(supervisor: int) -> None:
    from contextlib import suppress  # noqa: PLC0415 - not needed on Linux

    command = os.getpid()
    if os.fork() != 0:
        return
    # The command's output ends with the command, and its sockets are its own.
    for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 - pathlib takes long to load
        with suppress(OSError):
            os.close(int(descriptor))
    while os.getppid() == command:
        try:
            os.kill(supervisor, 0)
        except OSError:  # gone, or its number is another user's by now
            os.kill(command, signal.SIGKILL)
        time.sleep(WATCH_EVERY_S)
    os._exit(0)


if __name__ == "__main__":
    main()
