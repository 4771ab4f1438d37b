"""Programs of the parts, forked from a process that has loaded the libraries they stand on.

    python -m tests.forked SOCKET

To start one anew takes a second of the processor, most of it to load modules, and tests start two
hundred. So each of pytest's processes keeps one that has loaded them, and that forks. The fork is
the program from there on: it has the environment, the arguments and the descriptors that it would
have had, reads its settings from them, and ends as Python ends.
Its command line in /proc is another; what looks there has programs started anew. So have whole
stacks, and the long run of kills.
"""

import atexit
import fcntl
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from fastapi import FastAPI

PARTS: Final = ("api", "compose", "detector", "loadgen")
LARGEST: Final = 1 << 17
"""Bytes of a request: an environment and a command line."""
DESCRIPTORS: Final = 16
OUT_OF_THE_WAY: Final = 500
"""Descriptors from here on are no program's."""
RUN_S: Final = 60
"""The longest that a program may take that is run to its end."""
LOADED: Final = ("api.server", "compose.cli", "detector.service", "loadgen.service")


class Forked:
    """A running program; what `subprocess.Popen` is where it was started anew."""

    def __init__(self, source: "Source", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._source = source
        self._turn = threading.Lock()
        self._ended = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._ended)

    def poll(self) -> int | None:
        """Give its exit code, if it has ended."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; give its exit code."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, signum)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if select.select([self._ended], [], [], timeout)[0]:
            with self._turn:
                if self.returncode is None:
                    self.returncode = self._source.ask({"ended": self.pid})
        return self.returncode


class Source:
    """The process that forks, seen from the tests'."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        argv = (sys.executable, "-m", "tests.forked", str(theirs.fileno()))
        self._process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),))
        theirs.close()
        self._turn = threading.Lock()
        atexit.register(self.close)

    def ask(self, request: dict[str, object], fds: Sequence[int] = ()) -> int:
        """Send a request; give the answer."""
        with self._turn:
            socket.send_fds(self._ours, [json.dumps(request).encode()], fds)
            answer = self._ours.recv(LARGEST)
        assert answer, "the process that forks has ended"
        return int(answer)

    def close(self) -> None:
        """End it."""
        self._ours.close()
        self._process.wait()


@cache
def source() -> Source:
    """Give this process's source."""
    return Source()


def start(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    fds: Sequence[int] = (),
    output: int | None = None,
    errors: int | None = None,
) -> "Forked | subprocess.Popen[bytes]":
    """Run `python -m MODULE ARGUMENT...`.

    Args:
        module: one of PARTS, or a program within one.
        arguments: the command line's.
        env: its whole environment.
        fds: descriptors of ours that it inherits, by the same numbers.
        output: the descriptor that both its outputs go to; by default each to ours.
        errors: the descriptor of standard error, if that is another.
    """
    assert module.partition(".")[0] in PARTS
    if errors is None:
        errors = output
    if not hasattr(os, "pidfd_open"):  # no Linux
        argv = (sys.executable, "-m", module, *arguments)
        how = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": errors}
        return subprocess.Popen(argv, env=env, pass_fds=fds, **how)
    outputs = (1 if output is None else output, 2 if errors is None else errors)
    request = {"argv": [module, *arguments], "env": dict(env), "fds": [1, 2, *fds]}
    return Forked(source(), source().ask(request, (*outputs, *fds)))


def run(
    module: str, *arguments: str, env: Mapping[str, str], errors: int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end; give its exit code and what it has printed on either output.

    Args:
        module: one of PARTS, or a program within one.
        arguments: the command line's.
        env: its whole environment.
        errors: the descriptor of standard error, if that is not kept.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        to = err.fileno() if errors is None else errors
        program = start(module, *arguments, env=env, output=out.fileno(), errors=to)
        try:
            code = program.wait(RUN_S)
        finally:
            program.kill()
            program.wait()
        out.seek(0)
        err.seek(0)
        printed = out.read().decode(), err.read().decode()
    return subprocess.CompletedProcess((module, *arguments), code, *printed)


def main(sock: socket.socket) -> None:
    """Load the parts; become the one that is asked for."""
    for name in LOADED:
        importlib.import_module(name)
    FastAPI().get("/{one}")(lambda one: one)  # it loads a part of Pydantic for its first parameter
    gc.collect()
    gc.freeze()  # what is the same for all of them is looked through by none
    request = served(sock)
    if request:
        # As Python makes it at a start, by what the output is: whether it can be wound back, say.
        sys.stdout = os.fdopen(sys.stdout.fileno(), "w", closefd=False)
        sys.argv = request["argv"]
        sys.modules.pop(f"{request['argv'][0]}.__main__", None)  # compose.cli has loaded three
        runpy.run_module(request["argv"][0], run_name="__main__", alter_sys=True)


def served(sock: socket.socket) -> dict[str, list[str]] | None:
    """Answer requests: in the end with None, and in each fork with what it is to be."""
    while True:
        data, received, _, _ = socket.recv_fds(sock, LARGEST, DESCRIPTORS)
        if not data:
            return None
        request = json.loads(data)
        if ended := request.get("ended"):
            sock.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(ended, 0)[1]))
            continue
        pid = os.fork()
        if pid == 0:
            sock.close()
            placed(received, request["fds"])
            os.environ.clear()
            os.environ.update(request["env"])
            random.seed()
            return dict(request)
        for each in received:
            os.close(each)
        sock.send(b"%d" % pid)


def placed(received: Sequence[int], numbers: Sequence[int]) -> None:
    """Give descriptors their numbers, and nothing to read."""
    away = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY) for each in received]
    nothing = os.open(os.devnull, os.O_RDONLY)
    for each in received:
        os.close(each)
    for source_fd, number in zip((nothing, *away), (0, *numbers), strict=True):
        os.dup2(source_fd, number)
        if source_fd != number:
            os.close(source_fd)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
