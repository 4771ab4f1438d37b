"""Tokens for SASL OAUTHBEARER: from a token endpoint (RFC 6749, 4.4), or from a file.

A token is asked for when a connection is made, kept while it is good for some time, and then
renewed. Kafka ends connections whose token has expired (KIP-368, where the broker is set so); the
new connection brings the new token.
"""

import asyncio
import time
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote_plus

import httpx
import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from wire import tls
from wire.errors import AccessError
from wire.settings import KafkaSettings

TIMEOUT_S: Final = 5.0
RENEW_AT: Final = 0.8
"""Share of its life after which a token is no longer used for new connections."""
DEFAULT_LIFE_S: Final = 300
"""Life of a token whose endpoint does not say (RFC 6749, 5.1: it may leave it out)."""
MAX_LIFE_S: Final = 1e9
"""An endpoint that tells a longer life, or one that is no number, has given no token."""
MAX_REASON: Final = 100
"""Characters of an endpoint's own words that are shown."""
_FOR_NOW: Final = frozenset({408, 429})
"""Refusals that don't concern who asks: a fleet that starts together passes a limit, say."""
_KEPT: Final = 8


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: Annotated[float, msgspec.Meta(ge=0, le=MAX_LIFE_S)] = DEFAULT_LIFE_S


class _Refusal(msgspec.Struct):
    error: str = ""


# Some endpoints write the life as a string (Azure AD's first version does).
_answer = msgspec.json.Decoder(_Answer, strict=False)
_refusal = msgspec.json.Decoder(_Refusal)


def provider(settings: KafkaSettings) -> AbstractTokenProvider:
    """Give who provides tokens for these settings; the same one for the same settings."""
    if settings.kafka_oauth_token_file is not None:
        return FileTokens(settings.kafka_oauth_token_file)
    secret = settings.kafka_oauth_client_secret
    written = quote_plus if settings.kafka_oauth_header_urlencode else str
    return _shared(
        settings.kafka_oauth_token_url or "",
        written(settings.kafka_oauth_client_id or ""),
        written(secret.get_secret_value() if secret else ""),
        settings.kafka_oauth_scope,
        settings.kafka_oauth_cafile,
    )


class FileTokens(AbstractTokenProvider):  # type: ignore[misc] # untyped library
    """The token in a file, which someone else renews: a service account's, say."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Read the token.

        Raises:
            AuthenticationFailedError: it can't be read.
        """
        try:
            text = await asyncio.to_thread(self._path.read_text)
        except OSError as error:
            raise AuthenticationFailedError(
                f"no token in {self._path}: {error.strerror}"
            ) from error
        return text.strip()


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc] # untyped library
    """The client's token from an endpoint, renewed before it expires."""

    def __init__(
        self, url: str, client_id: str, secret: str, scope: str | None, cafile: Path | None
    ) -> None:
        """Make it; id and secret go into the header as they are given here."""
        self._url = url
        self._login = httpx.BasicAuth(client_id, secret)
        self._form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        self._verify = cafile
        self._token = ""
        self._renew_at = 0.0
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """Give a token that is good for some time yet.

        Raises:
            AuthenticationFailedError: the endpoint refuses the client, or can't be checked.
            KafkaConnectionError: it can't be reached, or answers nonsense; asking again can help.
        """
        async with self._asking:
            if time.monotonic() >= self._renew_at:
                asked_at = time.monotonic()
                answer = await self._ask()
                self._token = answer.access_token
                self._renew_at = asked_at + answer.expires_in * RENEW_AT
            return self._token

    async def _ask(self) -> _Answer:
        try:
            verify = await asyncio.to_thread(tls.trusting, self._verify, "KAFKA_OAUTH_CAFILE")
        except AccessError as error:
            raise AuthenticationFailedError(str(error)) from error
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, verify=verify) as client:
                response = await client.post(self._url, data=self._form, auth=self._login)
        except ImportError as error:  # the environment names a proxy by SOCKS, which httpx lacks
            raise AuthenticationFailedError(f"no token from {self._url}: {error}") from error
        except httpx.HTTPError as error:
            cause = str(error) or type(error).__name__
            raise KafkaConnectionError(f"no token from {self._url}: {cause}") from error
        if response.is_client_error and response.status_code not in _FOR_NOW:
            raise AuthenticationFailedError(
                f"{self._url} gives no token: {response.status_code} {_reason(response)}"
            )
        try:
            response.raise_for_status()
            return _answer.decode(response.content)
        except (httpx.HTTPError, msgspec.DecodeError):
            # The answer may hold a token: it is not shown.
            raise KafkaConnectionError(
                f"no token from {self._url}: it answers {response.status_code}, and no token"
            ) from None


_shared = lru_cache(_KEPT)(ClientCredentials)


def _reason(response: httpx.Response) -> str:
    try:
        return _refusal.decode(response.content).error[:MAX_REASON]
    except msgspec.DecodeError:
        return ""
