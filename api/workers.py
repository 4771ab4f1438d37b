"""The other processes behind the same socket, each asked at an address of its own.

Who asks one of them was let in, and counted, by the one that asks the others for it. These show by
the session key, which all processes of a gateway have the same of, that they are no client.
"""

import asyncio
import hmac
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Scope

from api.settings import ApiSettings

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger(__name__)
PATIENCE_S: Final = 2.0
"""A process that has not answered by then is left out."""
CONNECTIONS: Final = 20
"""Most connections to the others at a time; who finds none free waits, as long as the patience."""
PROOF: Final = "x-fraudstream-worker"
"""Header in which one process shows another that it is one."""
_PROOF: Final = PROOF.encode()
_PROVED: Final = b"fraudstream worker 1"
_NOT_FOUND: Final = 404


class Heard(NamedTuple):
    """What the others say."""

    answers: "list[httpx.Response]"
    """Of those that have what they were asked for."""
    unheard: int
    """How many others gave no answer."""


class Workers:
    """Asks the other processes, showing them the credential of whoever wants to know."""

    def __init__(self, settings: ApiSettings) -> None:
        addresses = settings.api_workers_at.split(",") if settings.api_workers_at else []
        scheme = "https" if settings.api_tls_certificate else "http"
        self._others = [
            f"{scheme}://{address}"
            for number, address in enumerate(addresses, 1)
            if number != settings.api_worker
        ]
        self._client: httpx.AsyncClient | None = None
        secret = settings.session_secret
        self._proof = hmac.digest(secret, _PROVED, "sha256").hex() if secret else ""

    async def ask(self, path: str, asker: HTTPConnection) -> Heard:
        """Ask each for what is at a path.

        Args:
            path: what to GET from each, quoted.
            asker: the request that is answered with it.
        """
        if not self._others:
            return Heard([], 0)
        headers = {
            name: asker.headers[name]
            for name in ("authorization", "cookie")
            if name in asker.headers
        }
        if self._proof:
            headers[PROOF] = self._proof
        heard = await asyncio.gather(*(self._ask(other + path, headers) for other in self._others))
        return Heard([answer for found in heard for answer in found or ()], heard.count(None))

    def sent(self, scope: Scope) -> bool:
        """Tell whether a request (ASGI scope) comes from one of the others."""
        given = next((value for name, value in scope["headers"] if name == _PROOF), b"")
        return bool(self._proof) and hmac.compare_digest(given, self._proof.encode())

    async def stop(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, url: str, headers: dict[str, str]) -> "list[httpx.Response] | None":
        """Give its answer, if it has one; None: it can't be heard."""
        import httpx  # noqa: PLC0415 - a process that is alone needs no client

        if self._client is None:
            # Each other's, on loopback: the certificate is for the name that clients know.
            self._client = httpx.AsyncClient(
                timeout=PATIENCE_S,
                trust_env=False,
                # One client for all who ask: it must keep nobody's cookies for the next.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                verify=False,  # noqa: S501
                limits=httpx.Limits(max_connections=CONNECTIONS),
            )
        try:
            async with asyncio.timeout(PATIENCE_S):  # httpx's is for each step
                answer = await self._client.get(url, headers=headers)
            if answer.status_code == _NOT_FOUND:
                return []
            answer.raise_for_status()
        except (httpx.HTTPError, TimeoutError) as error:
            log.warning("worker left out", url=url, error=repr(error))
            return None
        return [answer]
