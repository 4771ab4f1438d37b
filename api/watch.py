"""Watching files that something was loaded from, so that it is loaded anew when they change."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_Stamp = tuple[tuple[int, int], ...]
"""Change time and inode of each file."""
_NEVER: Final[_Stamp] = ()


class Watch:
    """Looks at files now and then, or at once when told so.

    Made before what it watches is loaded, so that no change in between is missed.
    """

    def __init__(self, files: Iterable[Path], every: float, reload: Callable[[], None]) -> None:
        """Watch `files`; look `every` so many seconds, and call `reload` when they changed."""
        self._files = sorted(set(files))
        self._every = every
        self._reload = reload
        self._seen = self._stamp()
        self._asked = asyncio.Event()

    def look(self) -> None:
        """Load the files anew soon, whether or not they changed."""
        self._asked.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._asked.wait()
            stamp = self._stamp()
            if self._asked.is_set() or stamp != self._seen:
                self._asked.clear()
                self._seen = stamp
                try:
                    self._reload()
                except Exception:  # what is watched must not be left unwatched
                    log.exception("reloading failed", files=[str(each) for each in self._files])

    def _stamp(self) -> _Stamp:
        try:
            found = [each.stat() for each in self._files]
        except OSError:
            return _NEVER  # gone for a moment, or for good: loading tells
        return tuple((each.st_mtime_ns, each.st_ino) for each in found)
