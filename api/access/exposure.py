"""Whether a gateway may listen where it was told to."""

import socket

from api.access.settings import AccessSettings
from api.addresses import is_public
from api.errors import ExposedError


def check(settings: AccessSettings, listener: socket.socket) -> None:
    """See that nobody from elsewhere comes in without being asked who they are.

    Raises:
        ExposedError: they would, and nobody said that they may.
    """
    if settings.authenticates or settings.api_allow_anonymous or not is_public(listener):
        return
    host, port = listener.getsockname()[:2]
    raise ExposedError(
        f"{host}:{port} can be reached from other machines, and nobody is asked who they are: "
        "set API_KEYS_FILE (`fraudstream keys create` makes keys) or API_JWT_JWKS_URL, or allow "
        "it by API_ALLOW_ANONYMOUS=true"
    )
