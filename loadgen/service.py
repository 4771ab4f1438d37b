"""The command: from settings to an exit code."""

import asyncio
import gc
import os
import signal
import time
from time import monotonic as now
from typing import Final, NamedTuple

from loadgen import hdrlog, html, live, loop, report, summary
from loadgen.driver import Driver
from loadgen.errors import ReportError
from loadgen.measure import Course, Tally
from loadgen.processes import Processes
from loadgen.run import Start
from loadgen.settings import LoadgenSettings
from loadgen.share import Share
from wire import logs, outputs
from wire.messages import encode

FAILED: Final = 1
"""Exit code when a threshold or the verification did not hold."""
INTERRUPTED: Final = 130
"""Exit code when stopped before anything ran, or at once by a second signal."""
HEAD_START_S: Final = 0.2
"""Between the decision to start and the first send, so that all senders stand ready."""
TICK_S: Final = 1.0
MIN_STRETCH_S: Final = 0.001
"""No stretch is shorter: rates are divided by it."""


class Watched(NamedTuple):
    """A run that is over."""

    summary: summary.Summary
    course: Course
    total: Tally


def run(settings: LoadgenSettings) -> int:
    """Drive, measure, report; give the exit code."""
    logs.configure(settings, "loadgen")
    with asyncio.Runner(loop_factory=loop.factory(settings)) as runner:
        return runner.run(_run(settings))


async def _run(settings: LoadgenSettings) -> int:
    driver: Driver = Processes(settings) if settings.loadgen_processes > 1 else Share(settings)
    stopped = asyncio.Event()
    _on_signals(driver, stopped)
    try:
        if not await _prepared(driver, stopped):
            return INTERRUPTED
        gc.freeze()  # the world lives as long as the run: collections need not walk it
        return _reported(settings, await watch(settings, driver))
    finally:
        await driver.close()


def _on_signals(driver: Driver, stopped: asyncio.Event) -> None:
    def stop() -> None:
        if stopped.is_set():
            os._exit(INTERRUPTED)  # the second time: at once, whatever hangs
        stopped.set()
        driver.stop()

    running = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        try:
            running.add_signal_handler(name, stop)
        except NotImplementedError:  # Windows: Ctrl-C ends the run without a summary
            return


async def _prepared(driver: Driver, stopped: asyncio.Event) -> bool:
    """Wait until the run can start; False when it was stopped before."""
    preparing = asyncio.create_task(driver.prepare())
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.is_set():
            await preparing
    finally:
        for task in (preparing, stopping):
            task.cancel()
        await asyncio.wait({preparing, stopping})
    return not stopped.is_set()


async def watch(settings: LoadgenSettings, driver: Driver) -> Watched:
    """Drive a prepared run to its end, showing how it goes on."""
    total, course = Tally(), Course()
    start = Start(now() + HEAD_START_S, time.time() + HEAD_START_S)
    with hdrlog.opened(settings.loadgen_hdr, start.epoch) as log, live.view(settings) as view:
        driving = asyncio.create_task(driver.drive(start))
        ticked = 0.0
        while not driving.done():
            await asyncio.wait({driving}, timeout=TICK_S)
            elapsed = max(now() - start.at, ticked + MIN_STRETCH_S)
            stretch, length = driver.collect(), elapsed - ticked
            total.add(stretch)
            course.add(stretch, elapsed)
            log.add(stretch, begin=ticked, length=length)
            view.show(total, stretch, elapsed=elapsed, length=length, in_flight=driver.in_flight)
            ticked = elapsed
    return Watched(summary.make(settings, total, await driving), course, total)


def _reported(settings: LoadgenSettings, run: Watched) -> int:
    """Print the summary, write the page; give the exit code."""
    as_json = settings.loadgen_json
    outputs.line(encode(run.summary).decode() if as_json else report.text(run.summary))
    if settings.loadgen_html:
        page = html.page(run.summary, run.course, run.total)
        try:
            settings.loadgen_html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise ReportError(f"{settings.loadgen_html}: {error.strerror}") from error
    return 0 if run.summary.ok else FAILED
