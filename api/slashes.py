"""Addresses with a slash too many at their end: clients are led to the ones without.

Starlette would name scheme and host, too. Where a proxy ends TLS that is not the scheme that the
client came by, so here neither is told, as in no other `Location` of the gateway.
"""

from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.routing import Match, Router
from starlette.types import ASGIApp, Receive, Scope, Send


def otherwise(router: Router) -> ASGIApp:
    """Make what answers where no route of a router's does: a redirect, or not found."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/")
        without = {**scope, "path": path}
        if path == scope["path"] or all(
            route.matches(without)[0] is Match.NONE for route in router.routes
        ):
            await router.not_found(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        response = RedirectResponse(quote(path) + ("?" + query if query else ""))
        await response(scope, receive, send)

    return answer
