"""`python -m loadgen`: drive transactions, measure, verify."""

from loadgen.settings import LoadgenSettings
from loadgen.verify.settings import VerifySettings
from wire.options import main


def loadgen(settings: LoadgenSettings) -> int:
    """Drive transactions at a set rate, open loop; measure and verify.

    Exit codes: 0 it ran and all that was asked of it held, also when stopped early by Ctrl-C;
    1 a threshold or the verification failed; 2 bad settings, or nothing to talk to; 130 stopped
    at once by a second Ctrl-C.
    """
    from loadgen.service import run  # noqa: PLC0415 - `--help` need not load the clients

    return run(settings)


def verify(settings: VerifySettings) -> int:
    """Check that each transaction in the log has one, right verdict.

    Exit codes: 0 it is so; 1 it is not; 2 bad settings, or nothing to talk to.
    """
    from loadgen.verify.command import run  # noqa: PLC0415 - as above

    return run(settings)


if __name__ == "__main__":
    main(LoadgenSettings, loadgen)
