"""The gate: who a request comes from, and whether they may come in.

A credential is taken from `Authorization: Bearer` or from the session's cookie, and from nowhere
else: an address ends up in logs, histories and referrers.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from api.access import keys, origin, routes
from api.access.keys import Keys
from api.access.principal import MAX_CREDENTIAL_BYTES, PRINCIPAL, Principal
from api.access.routes import Need
from api.access.session import Sessions, cookie_names
from api.access.settings import AccessSettings
from api.edge.clients import address_of
from api.edge.limits import Limits
from api.errors import CredentialError
from api.negotiation import wants_page
from api.problems import CROSS_SITE, FORBIDDEN, NOT_FOUND, UNAUTHENTICATED, Kind, Problem
from wire.audit import Audit, Event

if TYPE_CHECKING:
    from api.access.tokens import Tokens

log = structlog.get_logger(__name__)

CHALLENGE: Final = 'Bearer realm="fraudstream"'
MAX_COOKIES_BYTES: Final = 16_384
"""Of one request; more are not looked through."""
_BEARER: Final = b"bearer "


class Gate:
    """Lets in who may come in."""

    def __init__(
        self,
        settings: AccessSettings,
        audit: Audit | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Read all keys.

        Args:
            settings: where they are.
            audit: where it is recorded who was refused.
            limits: bound how often an address may fail; None: it may as often as it likes.

        Raises:
            KeyFileError: the file of API keys can't be used.
            KeySetError: the file of those who sign tokens can't be used.
        """
        self.audit = audit or Audit("api")
        self._limits = limits
        self.keys = Keys(settings, self.audit)
        self.tokens = _tokens(settings) if settings.has_tokens else None
        self.sessions = Sessions(settings)
        self.refused = Counter[str]()
        """Requests refused, by the problem's code."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the keys up meanwhile."""
        tasks = [asyncio.create_task(self.keys.watch.run(), name="API keys")]
        if self.tokens is not None:
            tasks.append(asyncio.create_task(self.tokens.keys.run(), name="JWK Set"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Read the files of keys anew soon."""
        self.keys.watch.look()
        if self.tokens is not None and self.tokens.keys.watch is not None:
            self.tokens.keys.watch.look()

    def admits(self, scope: Scope) -> bool:
        """Let a request in whose API key was checked before, with its principal; False: ask on.

        The short way for who posts a thousand times a second.
        """
        said: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if said is not None:
                    return False
                said = value
        if said is None:
            return False
        principal = self.keys.recall(said, time.time())
        need = routes.need(scope["path"])
        if principal is None or need is None or not need.is_met_by(principal.scopes):
            return False
        scope[PRINCIPAL] = principal
        return True

    async def refusal(self, scope: Scope) -> Response | None:
        """Let a request in (ASGI scope), with its principal; or give the answer that refuses it."""
        need = routes.need(scope["path"])
        if need is not None and need.is_open:
            return None
        principal: Principal | None = None
        try:
            principal = await self._principal(scope)
            _check_scopes(need, principal)
        except CredentialError as error:
            problem = self.failed(scope) or _unauthenticated(str(error), is_given=True)
        except Problem as found:
            if found.kind is UNAUTHENTICATED and _wants_page(scope):
                return _to_sign_in(scope)
            problem = found
        else:
            scope[PRINCIPAL] = principal
            return None
        self._deny(scope, problem.kind, principal)
        return problem.response()

    def failed(self, scope: Scope) -> Problem | None:
        """Count a credential that does not count; give the problem if there were too many."""
        return None if self._limits is None else self._limits.failed(scope)

    def _deny(self, scope: Scope, kind: Kind, principal: Principal | None) -> None:
        self.refused[kind.code] += 1
        if kind.status != NOT_FOUND.status:
            self.audit.record(
                Event.DENIED,
                principal=None if principal is None else principal.id,
                address=address_of(scope),
                code=kind.code,
                at=routes.name(scope["path"]),
            )

    def current(self, principal: Principal) -> Principal | None:
        """Give a principal with the rights it has by now; None if its credential counts no more."""
        now = time.time()
        if principal.expires_at is not None and now >= principal.expires_at:
            return None
        if not principal.id.startswith(keys.PRINCIPAL_PREFIX):
            return principal if self.tokens is not None else None
        try:
            found = self.keys.current(principal.id.removeprefix(keys.PRINCIPAL_PREFIX), now)
        except CredentialError:
            return None
        ends = [each for each in (principal.expires_at, found.expires_at) if each is not None]
        return replace(found, expires_at=min(ends)) if ends else found

    def session_of(self, scope: Scope) -> str | None:
        """Give the id of who is signed in, for the record; None if nobody is."""
        cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
        try:
            return self._signed_in(scope, cookies).id
        except Problem:
            return None

    async def recognise(self, credential: bytes) -> Principal:
        """Give whom an API key or a token stands for.

        Raises:
            CredentialError: it does not count.
        """
        if len(credential) > MAX_CREDENTIAL_BYTES:
            raise CredentialError(f"a credential may have {MAX_CREDENTIAL_BYTES} bytes")
        if self.tokens is None or credential.startswith(keys.PREFIX):
            return self.keys.check(credential, time.time())
        return await self.tokens.check(credential, time.time())

    async def _principal(self, scope: Scope) -> Principal:
        """Give whom a request comes from.

        Raises:
            CredentialError: what it sent does not count.
            Problem: it sent none, or not as it should; or its session does not count.
        """
        given: bytes | None = None
        cookies = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                # Which of two would count is a guess, and another one's may differ.
                given = value if given is None else b""
            elif name == b"cookie":
                cookies = b"%b; %b" % (cookies, value) if cookies else value
        if given is None:
            return self._signed_in(scope, cookies)
        if given[: len(_BEARER)].lower() != _BEARER:
            raise _unauthenticated("send one `Authorization: Bearer` with an API key or a token")
        credential = given[len(_BEARER) :].strip()
        found = await self.recognise(credential)
        if credential.startswith(keys.PREFIX):
            self.keys.remember(given, found)
        return found

    def _signed_in(self, scope: Scope, cookies: bytes) -> Principal:
        value = session_in(scope["scheme"], cookies)
        if value is None:
            raise _unauthenticated("send an API key or a token as `Authorization: Bearer`")
        try:
            found = self.current(self.sessions.read(value, time.time()))
        except CredentialError as error:
            raise _unauthenticated(f"{error}: sign in again") from None
        if found is None:
            raise _unauthenticated("what was signed in with counts no more: sign in again")
        if scope["method"] not in origin.SAFE_METHODS:
            check_origin(scope)
        return found


def session_in(scheme: str, cookies: bytes) -> bytes | None:
    """Find the session in a request's cookies."""
    if not cookies or len(cookies) > MAX_COOKIES_BYTES:
        return None
    found = cookie_parser(cookies.decode("latin-1"))
    value = next((found[name] for name in cookie_names(scheme) if name in found), None)
    return None if value is None else value.encode("latin-1", "replace")


def check_origin(scope: Scope) -> None:
    """Refuse what a page of another site had a browser send.

    Raises:
        Problem: 403.
    """
    if not origin.is_own(scope["scheme"], Headers(scope=scope)):
        raise Problem(CROSS_SITE, "a signed-in browser may do this from a page of the gateway only")


def _check_scopes(need: Need | None, principal: Principal) -> None:
    if need is None:
        raise Problem(NOT_FOUND, "Not Found")
    if not need.is_met_by(principal.scopes):
        scopes = " ".join(sorted(need.alternatives[0]))
        challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{scopes}"'
        raise Problem(FORBIDDEN, f"this needs {scopes}", headers={"WWW-Authenticate": challenge})


def _unauthenticated(detail: str, *, is_given: bool = False) -> Problem:
    challenge = f'{CHALLENGE}, error="invalid_token"' if is_given else CHALLENGE
    return Problem(UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})


def _wants_page(scope: Scope) -> bool:
    """Tell whether a browser navigates here without having said who it is."""
    headers = Headers(scope=scope)
    return (
        scope["method"] in ("GET", "HEAD")
        and "authorization" not in headers
        and wants_page(headers.get("accept", ""))
    )


def _to_sign_in(scope: Scope) -> Response:
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    response = RedirectResponse(f"/sign-in?next={quote(target, safe='')}", 303)
    response.headers["Cache-Control"] = "no-store"
    return response


def _tokens(settings: AccessSettings) -> "Tokens":
    from api.access.tokens import Tokens  # noqa: PLC0415 - it loads cryptography and a client

    return Tokens(settings)
