"""`fraudstream verify`: one audit from settings to exit code."""

import asyncio
import os
import signal
import sys
from dataclasses import asdict
from typing import Final

import msgspec
import structlog

from loadgen.verify.audit import Findings
from loadgen.verify.reading import LIMITS, Reading
from loadgen.verify.settings import VerifySettings
from wire import access, logs, outputs, topics
from wire.source import opened

log = structlog.get_logger(__name__)
FAILED: Final = 1
INTERRUPTED: Final = 130


def run(settings: VerifySettings) -> int:
    """Audit the log; give the exit code: 0 all is right, 1 it is not."""
    logs.configure(settings, "verify")
    return asyncio.run(_run(settings))


async def _run(settings: VerifySettings) -> int:
    findings = await audited(settings)
    outputs.line(_said(findings, as_json=settings.verify_json))
    return 0 if findings.ok else FAILED


async def audited(settings: VerifySettings) -> Findings:
    """Read the span and judge it; SIGINT or SIGTERM end the watching, a second one everything."""
    counts = await topics.wait(settings, *topics.names(settings))
    async with opened(settings, counts, LIMITS) as (client, source):
        reading = Reading(settings, client, source, counts)

        def stop() -> None:
            if reading.stopped:
                os._exit(INTERRUPTED)  # however long the log is, and whether Kafka answers or not
            reading.stop()

        running = asyncio.get_running_loop()
        signals = () if sys.platform == "win32" else (signal.SIGINT, signal.SIGTERM)
        for name in signals:
            running.add_signal_handler(name, stop)
        log.info("auditing the log", topic=settings.transactions_topic)
        try:
            with access.told(settings):
                return await reading.audit()
        finally:
            for name in signals:
                running.remove_signal_handler(name)


def _said(findings: Findings, *, as_json: bool) -> str:
    counted = asdict(findings)
    if as_json:
        return msgspec.json.encode(counted | {"ok": findings.ok}).decode()
    return "\n".join(f"{name.replace('_', ' '):<14} {count:,}" for name, count in counted.items())
