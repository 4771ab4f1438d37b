"""Deadlines of requests: one timer for all of them, as it costs less CPU than some for each."""

import asyncio
from collections.abc import Iterator
from typing import Any

Waiting = asyncio.Task[Any]


class Deadlines:
    """Cancels tasks that wait for longer than a time, the same for all."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._due: dict[Waiting, float] = {}
        """In the order in which they fall due."""
        self._late: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Waiting:
        """Let the current task wait from now on; it must say when that is over."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only tasks wait
        due = self._loop.time() + self._seconds
        self._due[task] = due
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        return task

    def end(self, task: Waiting) -> None:
        """Note that its waiting is over."""
        self._due.pop(task, None)
        self._late.discard(task)

    def is_cause(self, task: Waiting) -> bool:
        """Tell whether its deadline alone has cancelled it; then it may go on."""
        return task in self._late and not task.uncancel()

    def close(self) -> None:
        """Watch no longer."""
        if self._timer:
            self._timer.cancel()

    def _look(self) -> None:
        for task in list(self._overdue(self._loop.time())):
            del self._due[task]
            self._late.add(task)
            task.cancel()
        oldest = next(iter(self._due.values()), None)
        self._timer = None if oldest is None else self._loop.call_at(oldest, self._look)

    def _overdue(self, now: float) -> Iterator[Waiting]:
        for task, due in self._due.items():
            if due > now:
                return
            yield task
