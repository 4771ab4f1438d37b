"""Latencies as an HdrHistogram log (format 1.3), which HdrHistogram's tools read and plot.

One line an interval and kind: `Tag=post` and `Tag=verdict`. Values are in microseconds, the
interval's maximum in milliseconds. Written as the run goes, so a run that dies leaves its log.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

import structlog

from loadgen.errors import ReportError
from loadgen.measure import Tally

log = structlog.get_logger(__name__)
HEADER: Final = """#[Histogram log format version 1.3]
#[StartTime: {epoch:.3f} (seconds since epoch), {date}]
"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
"""


class HdrLog:
    """A log that is being written."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file

    def add(self, stretch: Tally, *, begin: float, length: float) -> None:
        """Write an interval's latencies, if there are any; times in seconds from the start."""
        if self._file is None:
            return
        try:
            self._write(self._file, stretch, begin=begin, length=length)
        except OSError as error:  # a full disk: the run is worth more than its log
            log.error("the log of latencies ends here", cause=error.strerror)
            self._file = None

    def _write(self, file: TextIO, stretch: Tally, *, begin: float, length: float) -> None:
        for tag, latency in (("post", stretch.latency), ("verdict", stretch.verdict_latency)):
            if latency.count:
                encoded = latency.encoded().decode()
                file.write(f"Tag={tag},{begin:.3f},{length:.3f},{latency.longest:.3f},{encoded}\n")
        file.flush()


@contextmanager
def opened(path: Path | None, epoch: float) -> Iterator[HdrLog]:
    """Open a log for a run that starts at so many seconds since the Unix epoch.

    Without a path nothing is written.

    Raises:
        ReportError: the file can't be written.
    """
    if path is None:
        yield HdrLog(None)
        return
    try:
        file = path.open("w", encoding="ascii")
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    try:
        date = datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")
        file.write(HEADER.format(epoch=epoch, date=date))
        yield HdrLog(file)
    finally:
        with suppress(OSError):  # that it ended early was told
            file.close()
