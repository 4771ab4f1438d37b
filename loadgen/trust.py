"""Whom to trust over https: how the gateway's certificate is checked."""

import ssl

from loadgen.settings import LoadgenSettings
from wire import tls


def context(settings: LoadgenSettings) -> ssl.SSLContext | bool:
    """Give how to check the gateway's certificate: a context, or False for not at all.

    Raises:
        AccessError: the file of authorities can't be used.
    """
    if settings.loadgen_insecure:
        return False
    if settings.loadgen_cafile is None:
        # The system's take 40 ms to load: not where there is no certificate to check.
        return settings.loadgen_url.startswith("https:")
    return tls.trusting(settings.loadgen_cafile, "LOADGEN_CAFILE")
