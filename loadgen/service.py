"""The command: from settings to an exit code."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable

from loadgen import report, schedule
from loadgen.measure import Course, Tally
from loadgen.run import Run
from loadgen.settings import LoadgenSettings
from loadgen.target_http import HttpTarget
from loadgen.world import World
from wire import logs


def run(settings: LoadgenSettings) -> int:
    """Drive transactions at a steady rate, whatever the server does, and measure."""
    logs.configure(settings, "loadgen")
    with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
        return runner.run(_run(settings))


def _loop_factory(settings: LoadgenSettings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    # uvloop raises an error that aiokafka does not expect when a broker goes (aiokafka #1038).
    if settings.loadgen_target == "kafka" or sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - there is none for Windows

    return uvloop.new_event_loop


async def _run(settings: LoadgenSettings) -> int:
    target = HttpTarget(
        settings.loadgen_url,
        connections=settings.loadgen_connections,
        timeout=settings.loadgen_timeout,
        batched=settings.loadgen_batch > 1,
    )
    world = World(settings.loadgen_seed, accounts=settings.loadgen_accounts)
    rate = settings.transactions_per_second / settings.loadgen_batch
    shape = schedule.shape(settings.loadgen_arrivals, rate, settings.seconds)
    seed = settings.loadgen_seed if schedule.is_poisson(settings.loadgen_arrivals) else None
    tally = Tally()
    course = Course(tally)
    try:
        await target.ready(settings.loadgen_wait)
    except BaseException:
        await target.close()
        raise
    shots = world.shots(
        schedule.times(shape, seed=seed), start=time.time(), batch=settings.loadgen_batch
    )
    load = Run(settings, target, shots, tally)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, load.stop)
    driving = asyncio.create_task(load.drive())
    while not driving.done():
        await asyncio.wait({driving}, timeout=1)
        course.tick(load.elapsed)
        line = report.progress(tally, load.elapsed, settings.transactions_per_second)
        sys.stderr.write(line + "\n")
    await driving
    await target.close()
    sys.stdout.write(report.summary(tally, load.elapsed) + "\n")
    return 0
