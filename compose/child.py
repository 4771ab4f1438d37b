"""One child process of the supervisor: started on a leash, its output kept, stopped in time."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import structlog

from compose import leash

log = structlog.get_logger(__name__)
LOG_BYTES: Final = 10_000_000
"""A part's log file is rotated at this size; one older file is kept."""
LINE_BYTES: Final = 65_536
"""A longer line of output is cut into pieces of this size."""


@dataclass(frozen=True, slots=True)
class Part:
    """How to run one part of the stack."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    stop_seconds: float = 3.0
    """Time between SIGTERM and SIGKILL."""
    on_line: Callable[[str], None] | None = None
    """Also gets each line of standard output, for parts that report to the user."""


class Child:
    """A running part."""

    def __init__(self, part: Part, process: asyncio.subprocess.Process) -> None:
        self.part = part
        self.last_line = ""
        """The last line that it has printed, for whoever asks why it died."""
        self._process = process
        self._log = _Log(part)
        self._pumps = asyncio.gather(
            self._pump(process.stdout, part.on_line), self._pump(process.stderr, None)
        )

    @classmethod
    async def start(cls, part: Part) -> "Child":
        """Start the part in a session of its own: the terminal's Ctrl-C is the supervisor's."""
        part.log.parent.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", leash.__file__, str(os.getpid())),
            *part.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **part.env},
            pass_fds=part.pass_fds,
            start_new_session=True,
            limit=LINE_BYTES,
        )
        return cls(part, process)

    @property
    def pid(self) -> int:
        """The operating system's number for it."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait until it has ended and its output is kept; give its exit code."""
        code = await self._process.wait()
        await self._pumps
        with suppress(OSError):  # what could not be written can't be now either
            self._log.close()
        return code

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signum)

    async def stop(self) -> None:
        """Ask it to end; after its time, kill it."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.part.stop_seconds):
                await self._process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    async def _pump(
        self, stream: asyncio.StreamReader | None, on_line: Callable[[str], None] | None
    ) -> None:
        assert stream is not None  # noqa: S101 - both were asked for as pipes
        while line := await _line(stream):
            text = line.decode(errors="replace").rstrip("\n")
            self.last_line = text or self.last_line
            self._log.emit(logging.makeLogRecord({"msg": text}))
            if on_line is not None:
                try:
                    on_line(text)
                except Exception:  # else nobody would empty the pipe, and the part stand still
                    log.exception("lines are passed on no more", name=self.part.name)
                    on_line = None


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil()
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.read(error.consumed)


class _Log(RotatingFileHandler):
    """A part's log file: where it can't be written, on a full disk, the part goes on without."""

    def __init__(self, part: Part) -> None:
        super().__init__(part.log, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
        self._is_told = False

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Tell the cause, once; logging would print a traceback for each line."""
        if not self._is_told:
            self._is_told = True
            log.warning(
                "a log can't be written", file=self.baseFilename, error=str(sys.exception())
            )
