"""A supervisor's life in the foreground: until the user stops it, or a part is given up."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence

from compose.screen import Screen
from compose.supervisor import Supervisor


async def run(
    start: Callable[[Supervisor], Awaitable[None]], order: Sequence[str], screen: Screen
) -> None:
    """Start the parts and keep them until SIGINT, SIGTERM or SIGHUP, then stop them in order.

    A second SIGINT or SIGTERM ends everything at once.

    Args:
        start: starts the parts; it is cancelled when the signal comes before it is through.
        order: prefixes of the parts' names, those to stop first first.
        screen: is told when it stops.

    Raises:
        FraudstreamError: the start failed, or a part was given up; everything is stopped then.
    """
    supervisor = Supervisor()
    stop = _on_signal(supervisor)
    try:
        if await _unless(stop, supervisor, start(supervisor)):
            await _unless(stop, supervisor, asyncio.Event().wait())
    finally:
        screen.step("stopping")
        for prefix in order:
            await supervisor.stop(prefix)
        screen.step("stopped")


def _on_signal(supervisor: Supervisor) -> asyncio.Event:
    stop = asyncio.Event()

    def note() -> None:
        if stop.is_set():
            supervisor.kill()
        stop.set()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, note)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup started us
        # A terminal's end is told by the system and by the shell: it does not ask twice.
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    return stop


async def _unless(stop: asyncio.Event, supervisor: Supervisor, work: Awaitable[object]) -> bool:
    """Do the work; give False if the user stopped it, raise if it or a part failed."""
    job = asyncio.ensure_future(work)
    others = [asyncio.create_task(stop.wait()), asyncio.create_task(supervisor.failure())]
    done, pending = await asyncio.wait([job, *others], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait([job, *others])
    for task in done:
        task.result()
    return job in done
