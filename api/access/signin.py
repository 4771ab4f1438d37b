"""`/sign-in` and `/sign-out`: a browser's session, as EventSource can send no header of its own.

The cookie is Secure always. Over plain HTTP browsers keep such a one from this machine only
(Chromium and Firefox trust `localhost` and loopback addresses, Safari does not): over a network
there is a session by HTTPS or none, and the page says so instead of failing in silence.
"""

import asyncio
import time
from html import escape
from typing import Final
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from api import pages
from api.access.gate import CHALLENGE, Gate, check_origin
from api.access.principal import Principal
from api.access.session import PLAIN_NAME, SECURE_NAME
from api.addresses import is_loopback, without_port
from api.edge.clients import address_of
from api.errors import CredentialError
from api.problems import BODY_TIMEOUT, TOO_LARGE, Problem
from api.settings import ApiSettings
from wire.audit import Event

MAX_FORM_BYTES: Final = 32_768
MAX_NEXT: Final = 2048
NO_STORE: Final = {"Cache-Control": "no-store"}


def routes(gate: Gate, settings: ApiSettings) -> APIRouter:
    """Make the routes; there are none where nobody is asked who they are."""
    router = APIRouter(include_in_schema=False)

    @router.get("/sign-in")
    async def form(request: Request) -> Response:
        return _page(local(request.query_params.get("next", "")))

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        check_origin(request.scope)
        fields = await _form(request, settings.body_timeout)
        target = local(fields.get("next", ""))
        scheme = request.scope["scheme"]
        host = without_port(request.headers.get("host", ""))
        if scheme != "https" and not is_loopback(host):
            return _page(target, "Sign in over HTTPS: no session is made over plain HTTP.", 400)
        credential = fields.get("credential", "").strip().encode()
        try:
            principal = await gate.recognise(credential)
        except CredentialError as error:
            text = str(error)
            address = address_of(request.scope)
            gate.audit.record(Event.SIGN_IN_FAILED, address=address, cause=text)
            if (problem := gate.failed(request.scope)) is not None:
                raise problem from error
            return _page(target, f"{text[:1].upper()}{text[1:]}.", 401)
        address = address_of(request.scope)
        gate.audit.record(Event.SIGNED_IN, principal=principal.id, address=address)
        return _signed_in(gate, principal, target, scheme)

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        check_origin(request.scope)
        address = address_of(request.scope)
        gate.audit.record(
            Event.SIGNED_OUT, principal=gate.session_of(request.scope), address=address
        )
        response = RedirectResponse("/sign-in", 303, NO_STORE)
        for name in (SECURE_NAME, PLAIN_NAME):
            response.delete_cookie(name, secure=True, httponly=True, samesite="strict")
        return response

    return router


def local(target: str) -> str:
    """Give where to go next, if that is on this gateway; else the dashboard.

    Nothing that any browser could take for another host: it drops tabs and line feeds, and takes a
    backslash for a slash (WHATWG URL, 4.4).
    """
    is_plain = len(target) <= MAX_NEXT and target.isascii() and target.isprintable()
    if not is_plain or " " in target or "\\" in target or not target.startswith("/"):
        return "/"
    if target.startswith("//"):
        return "/"
    path = urlsplit(target).path
    return "/" if path in ("/sign-in", "/sign-out") else target


def _signed_in(gate: Gate, principal: Principal, target: str, scheme: str) -> Response:
    value, life = gate.sessions.issue(principal, time.time())
    response = RedirectResponse(target, 303, NO_STORE)
    response.set_cookie(
        SECURE_NAME if scheme == "https" else PLAIN_NAME,
        value,
        max_age=life,
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return response


async def _form(request: Request, patience: float) -> dict[str, str]:
    """Read the form's fields (application/x-www-form-urlencoded), the first of each name."""
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    raise Problem(TOO_LARGE, f"the form may have {MAX_FORM_BYTES} bytes")
    except TimeoutError:
        raise Problem(BODY_TIMEOUT, "the form did not arrive in time") from None
    except ClientDisconnect:
        return {}
    fields = parse_qs(body.decode("latin-1"), max_num_fields=None, errors="replace")
    return {name: values[0] for name, values in fields.items()}


def _page(target: str, problem: str = "", status: int = 200) -> Response:
    headers = {**pages.SECURITY_HEADERS, **NO_STORE}
    if status == 401:  # noqa: PLR2004 - which asks for this header (RFC 9110, 15.5.2)
        headers["WWW-Authenticate"] = f'{CHALLENGE}, error="invalid_token"'
    text = pages.written(
        "sign-in",
        next=escape(target),
        problem=escape(problem),
        invalid='aria-invalid="true"' if problem else "",
    )
    return Response(text, status, headers, "text/html; charset=utf-8")
