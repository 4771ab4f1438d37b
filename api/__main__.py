"""`python -m api`: run one gateway process."""

from api.settings import ApiSettings
from wire.options import main


def api(settings: ApiSettings) -> int:
    """Run the gateway: HTTP in, server-sent events out."""
    from api.server import serve  # noqa: PLC0415 - `--help` need not load the web framework

    return serve(settings)


if __name__ == "__main__":
    main(ApiSettings, api)
