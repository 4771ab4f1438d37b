"""Whom to trust over https: how the gateway's certificate is checked."""

import ssl

from loadgen.errors import TargetDownError
from loadgen.settings import LoadgenSettings


def context(settings: LoadgenSettings) -> ssl.SSLContext | bool:
    """Give how to check the gateway's certificate: a context, or False for not at all.

    Raises:
        TargetDownError: the file of authorities can't be used.
    """
    if settings.loadgen_insecure:
        return False
    if settings.loadgen_cafile is None:
        # The system's take 40 ms to load: not where there is no certificate to check.
        return settings.loadgen_url.startswith("https:")
    try:
        return ssl.create_default_context(cafile=settings.loadgen_cafile)
    except OSError as error:  # covers ssl.SSLError
        cause = getattr(error, "reason", None) or error.strerror
        raise TargetDownError(f"{settings.loadgen_cafile} has no authorities: {cause}") from error
