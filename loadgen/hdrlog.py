"""Latencies as an HdrHistogram log (format 1.3), which HdrHistogram's tools read and plot.

One line an interval and kind: `Tag=post` and `Tag=verdict`. Values are in microseconds, the
interval's maximum in milliseconds. Written as the run goes, so a run that dies leaves its log.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from loadgen.errors import ReportError
from loadgen.measure import Tally

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
        for tag, latency in (("post", stretch.latency), ("verdict", stretch.verdict_latency)):
            if latency.count:
                encoded = latency.encoded().decode()
                self._file.write(
                    f"Tag={tag},{begin:.3f},{length:.3f},{latency.longest:.3f},{encoded}\n"
                )
        self._file.flush()


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
    with file:
        date = datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")
        file.write(HEADER.format(epoch=epoch, date=date))
        yield HdrLog(file)
