"""The event loop to run on."""

import asyncio
import sys
from collections.abc import Callable

from loadgen.settings import LoadgenSettings


def factory(settings: LoadgenSettings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Choose uvloop, which costs less CPU, where it can be used."""
    # Under uvloop aiokafka meets an error it does not expect when a broker goes (aiokafka #1038).
    if settings.loadgen_target == "kafka" or sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - there is none for Windows

    return uvloop.new_event_loop
