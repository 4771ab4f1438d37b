"""What `up` tells its user: steps and warnings on standard error, the ready line on output.

The user may have gone, with the terminal or the pipe: what is told then is dropped, and the stack
goes on, or ends in order.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from compose.jars import Report
from wire import outputs


class PipeConsole(Console):
    """A console whose user learns that nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Pass it on; rich would end the program, and its parts with it."""
        raise BrokenPipeError


class Screen:
    """The terminal, or the pipes in its place."""

    def __init__(self) -> None:
        self._console = PipeConsole(stderr=True, highlight=False)

    def step(self, text: str) -> None:
        """Say what is being done."""
        with _heard_or_not(sys.stderr):
            self._console.print(f"[dim]·[/dim] {text}", soft_wrap=True)

    def ready(self, url: str, logs: Path) -> None:
        """Print the one line that programs wait for, and where to look next."""
        self.line(f"ready {url}")
        with _heard_or_not(sys.stderr):
            self._console.print(
                f"  dashboard  {url}/\n"
                f"  streams    curl -N {url}/stream/fraud   (a browser shows a live page)\n"
                f"  API        {url}/docs\n"
                f"  logs       {logs}\n"
                "  Ctrl-C stops everything; the data stays",
                markup=False,
                soft_wrap=True,
            )

    def line(self, text: str) -> None:
        """Pass on a line that a part has for the user."""
        with _heard_or_not(sys.stdout):
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    @contextmanager
    def download(self, title: str) -> Iterator[Report]:
        """Show a download's progress; nothing is shown when there is nothing to load."""
        columns = (TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        progress = Progress(*columns, console=self._console, transient=True)
        task = progress.add_task(title)
        with ExitStack() as shown:

            def report(done: int, total: int) -> None:
                if not progress.live.is_started:
                    shown.enter_context(progress)
                progress.update(task, completed=done, total=total)

            yield report


@contextmanager
def _heard_or_not(stream: TextIO) -> Iterator[None]:
    """Once nobody is there to hear, let all that follows go nowhere, and what is buffered too."""
    try:
        yield
    except OSError:
        outputs.drop(stream)
