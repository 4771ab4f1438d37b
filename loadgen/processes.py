"""Several processes that share one run, where a single one can't hold the rate.

Each is told the same start on the monotonic clock, which all processes of a machine share, sends
every n-th shot of the schedule, and reports what it counted once a second over a pipe. A pipe that
ends tells a member that its parent is gone: it ends at once.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from loadgen import loop
from loadgen.errors import ProcessError
from loadgen.measure import Tally
from loadgen.run import Start
from loadgen.settings import LoadgenSettings
from loadgen.share import Share
from wire import logs
from wire.errors import FraudstreamError

REPORT_EVERY_S: Final = 1.0
END_S: Final = 5.0
"""How long a member gets to end before it is killed."""


class Ready(NamedTuple):
    """A member is prepared."""


class Stop(NamedTuple):
    """A member shall send nothing more."""


class Failed(NamedTuple):
    """A member can't go on."""

    cause: str


class Counted(NamedTuple):
    """What a member counted since it last said so."""

    tally: Tally
    in_flight: int


class Done(NamedTuple):
    """A member's share is over."""

    seconds: float
    tally: Tally


class Processes:
    """The members of a run, as one."""

    def __init__(self, settings: LoadgenSettings) -> None:
        count = settings.loadgen_processes
        self._members = [_Member(settings, index, count) for index in range(count)]

    @property
    def in_flight(self) -> int:
        """Transactions sent and not answered yet."""
        return sum(member.in_flight for member in self._members)

    async def prepare(self) -> None:
        """Start the processes and wait until all are prepared."""
        for member in self._members:
            member.begin()
        await asyncio.gather(*(member.ready for member in self._members))

    async def drive(self, start: Start) -> float:
        """Run to the end; give the seconds for which the longest of them sent."""
        for member in self._members:
            member.tell(start)
        return max(await asyncio.gather(*(member.done for member in self._members)))

    def stop(self) -> None:
        """Send nothing more, and end when what is in flight is answered."""
        for member in self._members:
            member.tell(Stop())

    def collect(self) -> Tally:
        """Give what was counted since the last call."""
        together = Tally()
        for member in self._members:
            together.add(member.tally.taken())
        return together

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*(asyncio.to_thread(member.end) for member in self._members))


class _Member:
    """One process, seen from the parent."""

    def __init__(self, settings: LoadgenSettings, index: int, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.tally = Tally()
        self.in_flight = 0
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.done: asyncio.Future[float] = self._loop.create_future()
        self._pipe, self._theirs = context.Pipe()
        self._process = context.Process(
            target=_member, args=(settings, index, count, self._theirs), daemon=True
        )

    def begin(self) -> None:
        """Start the process."""
        self._process.start()
        self._theirs.close()
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, message: Start | Stop) -> None:
        """Send it a message, unless it has ended."""
        if self._process.is_alive():
            self._pipe.send(message)

    def end(self) -> None:
        """Let it end, or kill it."""
        self._pipe.close()
        if self._process.pid is None:
            return
        if not self._is_over:  # it has nothing to tell, and is told nothing more
            self._process.kill()
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _listen(self) -> None:
        message: Any = None
        while not isinstance(message, Done | Failed):
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                message = Failed("a process of the run ended before its time")
            self._loop.call_soon_threadsafe(self._hear, message)

    def _hear(self, message: Ready | Counted | Done | Failed) -> None:
        match message:
            case Ready():
                self.ready.set_result(None)
            case Counted(tally, in_flight):
                self.tally.add(tally)
                self.in_flight = in_flight
            case Done(seconds, tally):
                self._is_over = True
                self.tally.add(tally)
                self.in_flight = 0
                self.done.set_result(seconds)
            case Failed(cause):
                self._is_over = True
                waited_for = self.done if self.ready.done() else self.ready
                waited_for.set_exception(ProcessError(cause))


def _member(settings: LoadgenSettings, index: int, count: int, pipe: Connection) -> None:
    """Run one member: the new process's main function."""
    # Ctrl-C, and the signal of who ends all processes of a service, reach the parent: it tells us.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    logs.configure(settings, "loadgen")
    with asyncio.Runner(loop_factory=loop.factory(settings)) as runner:
        runner.run(_take_part(settings, index, count, pipe))


async def _take_part(settings: LoadgenSettings, index: int, count: int, pipe: Connection) -> None:
    starting: asyncio.Future[Start] = asyncio.get_running_loop().create_future()
    share: Share | None = None
    try:
        share = Share(settings, index=index, count=count)
        threading.Thread(target=_obey, args=(pipe, share, starting), daemon=True).start()
        await share.prepare()
        pipe.send(Ready())
        driving = asyncio.create_task(share.drive(await starting))
        while not driving.done():
            await asyncio.wait({driving}, timeout=REPORT_EVERY_S)
            pipe.send(Counted(share.collect(), share.in_flight))
        pipe.send(Done(await driving, share.collect()))
    except FraudstreamError as error:
        pipe.send(Failed(str(error)))
    finally:
        if share:
            await share.close()


def _obey(pipe: Connection, share: Share, starting: asyncio.Future[Start]) -> None:
    """Do what the parent says, from a thread of its own."""
    running = starting.get_loop()
    while True:
        try:
            message: Start | Stop = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)  # the parent is gone: nobody is left to report to
        if isinstance(message, Stop):
            running.call_soon_threadsafe(share.stop)
        else:
            running.call_soon_threadsafe(starting.set_result, message)
