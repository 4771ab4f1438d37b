"""TLS from our side, towards Kafka above all: whom to trust, and who we are, from PEM files."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from wire.errors import AccessError

if TYPE_CHECKING:
    from wire.settings import KafkaSettings  # it checks its files here


def context(settings: "KafkaSettings") -> ssl.SSLContext:
    """Load the files that settings name.

    Raises:
        AccessError: one can't be used; the text names it and its variable.
    """
    made = trusting(settings.kafka_ssl_cafile, "KAFKA_SSL_CAFILE")
    certificate, key = settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile
    if certificate is None:
        return made
    secret = settings.kafka_ssl_key_password
    # Never None: OpenSSL would ask for the password on the terminal.
    password = secret.get_secret_value() if secret else ""
    try:
        made.load_cert_chain(certificate, key, password)
    except (OSError, ValueError) as error:
        files = f"KAFKA_SSL_CERTFILE={certificate}" + (f" KAFKA_SSL_KEYFILE={key}" if key else "")
        raise AccessError(
            f"{files}: {_cause(error)}; expected a certificate, its key and the key's password"
        ) from error
    return made


def trusting(authorities: Path | None, variable: str) -> ssl.SSLContext:
    """Trust the authorities in a file that a variable names, without one the system's.

    Raises:
        AccessError: they can't be had.
    """
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ValueError) as error:
        raise AccessError(
            f"{variable}={authorities}: {_cause(error)}; expected certificates of authorities"
        ) from error


def _cause(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not understood").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
