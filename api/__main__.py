"""`python -m api`: run one gateway process."""

import signal

if __name__ == "__main__":
    # By default it ends a process, and what is imported next takes a while: it waits for `Server`.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

from api.settings import ApiSettings
from wire.options import main


def api(settings: ApiSettings) -> int:
    """Run the gateway: HTTP in, server-sent events out."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # as `fraudstream api`, too
    from api.server import serve  # noqa: PLC0415 - `--help` need not load the web framework

    return serve(settings)


if __name__ == "__main__":
    main(ApiSettings, api)
