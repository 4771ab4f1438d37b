"""Standard output and standard error: their reader may have gone, or never have been there."""

import os
import sys
from typing import Final, TextIO

from wire.errors import OutputError

_STANDARD: Final = 3
"""Standard input, output and error are the descriptors below this."""


def drop(stream: TextIO) -> None:
    """Let what is buffered, and all that follows, go nowhere.

    Else Python tries to write what is buffered once more when it ends, and its exit code becomes
    120, whatever the program gave.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def line(text: str) -> None:
    """Print a line on standard output; if its reader has gone, it has read enough.

    Raises:
        OutputError: it can't be written: the disk is full.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as error:
        drop(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"standard output: {error.strerror}") from error


def open_all() -> None:
    """Open those that were closed when the program began (`>&-`) to nowhere.

    Else Python has no stream for them, and the next file or connection is given their number, by
    which children would write into it.
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) < _STANDARD:
        os.set_inheritable(lowest, True)
    os.close(lowest)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            number = 1 if name == "stdout" else 2
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
