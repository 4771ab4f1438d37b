"""TLS served by the gateway itself: one context, whose certificate is renewed while it serves.

New connections get the new certificate; those that are open keep theirs.
"""

import ssl

import structlog

from api.errors import CertificateError
from api.settings import TlsSettings
from api.watch import Watch
from wire.audit import Audit, Event

log = structlog.get_logger(__name__)


class Certificate:
    """The certificate and key that connections are served with."""

    def __init__(self, settings: TlsSettings, audit: Audit | None = None) -> None:
        """Load certificate and key.

        Raises:
            CertificateError: they can't be used.
        """
        certificate = settings.api_tls_certificate
        assert certificate is not None  # noqa: S101 - asked for only where there is one
        self._certificate = certificate
        self._key = settings.api_tls_key or certificate
        secret = settings.api_tls_key_password
        # Never None: OpenSSL would ask for the password on the terminal.
        self._password = secret.get_secret_value() if secret else ""
        self._audit = audit or Audit("api")
        self.watch = Watch(
            (self._certificate, self._key), settings.api_tls_poll_seconds, self.reload
        )
        self.context = self._loaded()

    def reload(self) -> None:
        """Take the files as they are now; if they can't be used, keep what is served and say so."""
        try:
            self._loaded()  # apart first: a context that half of it was loaded into is no use
            self._load(self.context)
        except (CertificateError, OSError) as error:
            log.error("certificate not loaded; the old one is kept", error=str(error))
            self._audit.record(Event.CERTIFICATE_REFUSED, file=str(self._certificate))
        else:
            log.info("certificate loaded", certificate=str(self._certificate))
            self._audit.record(Event.CERTIFICATE_RENEWED, file=str(self._certificate))

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._certificate, self._key, self._password)
        except OSError as error:  # covers ssl.SSLError
            cause = getattr(error, "reason", None) or error.strerror or "not understood"
            raise CertificateError(
                f"can't use the certificate {self._certificate} with the key {self._key}: {cause}"
            ) from error
