"""Whom to trust over https: how the gateway's certificate is checked."""

import ssl

from loadgen.settings import LoadgenSettings
from wire import tls


def context(settings: LoadgenSettings) -> ssl.SSLContext | bool:
    """Give how to check the gateway's certificate: a context, or False for not at all.

    Raises:
        AccessError: the file of authorities can't be used.
    """
    # The system's take 40 ms to load: not where there is no certificate to check.
    is_plain = settings.loadgen_cafile is None and not settings.loadgen_url.startswith("https:")
    if settings.loadgen_insecure or is_plain:
        return False
    # Not httpx's own, which are those of the package certifi.
    return tls.trusting(settings.loadgen_cafile, "LOADGEN_CAFILE")
