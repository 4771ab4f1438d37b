"""Keeps the parts running: restarts one that dies, and gives up on one that can't be kept alive."""

import asyncio
import signal
from contextlib import suppress
from typing import Final

import structlog

from compose.child import Child, Part
from compose.errors import PartFailedError
from wire.options import USAGE_ERROR

log = structlog.get_logger(__name__)
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
SETTLED_AFTER_S: Final = 3.0
"""A part that lived this long had come up: its next death counts as the first."""
DEATHS_IN_A_ROW: Final = 10
"""So many deaths of a part that never settled, and the stack is ended."""


class Supervisor:
    """The running parts; each is kept running from `start` to `stop`."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, part: Part) -> None:
        """Start a part and keep it running."""
        self._kept[part.name] = _Kept(part, self._failed)

    async def stop(self, prefix: str = "") -> None:
        """Stop the parts whose names begin so, all at once, each within its own time."""
        chosen = [name for name in self._kept if name.startswith(prefix)]
        await asyncio.gather(*(self._kept[name].stop() for name in chosen))
        for name in chosen:  # only now: until then `kill` must reach them
            del self._kept[name]

    def kill(self) -> None:
        """End everything at once, asking nobody."""
        for kept in self._kept.values():
            kept.kill()

    async def failure(self) -> None:
        """Wait until a part is given up.

        Raises:
            PartFailedError: names the part, and the cause or its log file.
        """
        await asyncio.shield(self._failed)


class _Kept:
    """One part and its present process."""

    def __init__(self, part: Part, failed: asyncio.Future[None]) -> None:
        self._part = part
        self._failed = failed
        self._child: Child | None = None
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=part.name)
        self._task.add_done_callback(self._on_end)

    async def stop(self) -> None:
        self._stopping.set()
        if self._child is not None:
            await self._child.stop()
        await asyncio.wait([self._task])

    def kill(self) -> None:
        self._stopping.set()
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        deaths = 0
        came_up = False
        while not self._stopping.is_set():
            born = clock()
            self._child = child = await Child.start(self._part)
            if self._stopping.is_set():  # asked while the process was being made
                await child.stop()
            code = await child.wait()
            if self._stopping.is_set():
                return
            settled = clock() - born > SETTLED_AFTER_S
            came_up = came_up or settled
            deaths = 1 if settled else deaths + 1
            # One that had come up had good settings: what it lacks now may come back.
            if code == USAGE_ERROR and not came_up:
                self._give_up(f"can't be started: {child.last_line.removeprefix('error: ')}")
                return
            if deaths == DEATHS_IN_A_ROW:
                times = f"died {DEATHS_IN_A_ROW} times in a row (last exit code {code})"
                self._give_up(f"{times}; its log is {self._part.log}")
                return
            pause = min(FIRST_PAUSE_S * 2 ** (deaths - 1), LONGEST_PAUSE_S)
            log.warning(
                "part died",
                name=self._part.name,
                exit_code=code,
                restart_in_s=pause,
                last_line=child.last_line,
            )
            await self._pause(pause)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Give up a part that the system would not start (no memory, no file handles)."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, OSError):
            self._give_up(f"can't be started: {error.strerror}")
        elif error is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _pause(self, pause: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stopping.wait()

    def _give_up(self, why: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(PartFailedError(f"{self._part.name} {why}"))
