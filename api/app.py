"""The ASGI application: which address leads to which part."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api import (
    asyncapi,
    docs,
    explanations,
    health,
    metrics,
    openapi,
    pages,
    problems,
    schemas,
    slashes,
)
from api.access import signin
from api.edge import requestid
from api.edge.addresses import with_mapped
from api.edge.connections import Connections
from api.edge.cors import Cors
from api.exchange import Exchange, Take
from api.gateway import Gateway
from api.ingest import direct
from api.ingest import openapi as transactions
from api.settings import ApiSettings
from api.streams import endpoint as streams
from wire import logs, tracing

if TYPE_CHECKING:
    from api.tracing import GatewayTracing

DESCRIPTION = """\
Transactions in over HTTP, into Kafka; verdicts out over server-sent events, each exactly once.

* `POST /transactions` answers 2xx only after Kafka acknowledged the record with acks=all.
* `GET /stream/{fraud,legit,all}` resumes from `Last-Event-ID` with nothing lost, nothing twice.
* Every error is `application/problem+json` (RFC 9457) with a stable `code`; its `type` leads to
  what that means and what to do, and [`/problems`](problems) to all of them.
"""

# FastAPI's own would record bodies and the messages of exceptions, and trace each request twice.
_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


class Application(FastAPI):
    """FastAPI, but a POST of transactions does not pass through its layers.

    They cost a third of such a request's time, and that route makes its own answers and problems.
    """

    def __init__(self, gateway: Gateway, **options: Any) -> None:
        super().__init__(**options)
        self.gateway = gateway
        self.tracing: GatewayTracing | None = None
        self._hosts = gateway.hosts
        self._within: ASGIApp = self._answer
        self._is_plain = False

    def enclose(self) -> None:
        """Put what is set to be there round the routes; what is not costs nothing.

        From the inside: everything is traced but what a browser asks first, and all of it sees the
        client behind a proxy of ours.
        """
        settings, within = self.gateway.settings, self._within
        if self.tracing is not None:
            within = partial(self.tracing.serve, within)
        if settings.cors_origins:
            within = Cors(within, settings.cors_origins)
        if settings.trusted_proxies:
            within = ProxyHeadersMiddleware(within, with_mapped(settings.trusted_proxies))  # type: ignore[arg-type, assignment] # ASGI all the same
        self._within = within
        self._is_plain = within == self._answer and not self.gateway.limits.are_set

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        logs.request_id.set(scope.get(requestid.SCOPE))
        if self._hosts is None or self._hosts.allow(scope["headers"]):
            await self._within(scope, receive, send)
        else:
            await self._hosts.refuse().response()(scope, receive, send)

    def taker(self, scope: Scope) -> Take | None:
        """Give what takes a POST of one transaction, where nothing stands round the routes.

        See api.exchange.Taker; to who may not come in, or asks for anything else, the way is
        `__call__`.
        """
        is_taken = (
            self._is_plain
            and scope["method"] == "POST"
            and scope["path"] == "/transactions"
            and (self._hosts is None or self._hosts.allow(scope["headers"]))
            and direct.is_plain(scope["headers"])
        )
        if not is_taken:
            return None
        return self._take if self.gateway.gate is not None else self.gateway.ingest.direct.take

    def _take(self, exchange: Exchange) -> bool:
        gate = self.gateway.gate
        admitted = gate is None or gate.admits(exchange.scope)
        return admitted and self.gateway.ingest.direct.take(exchange)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        gate, limits = self.gateway.gate, self.gateway.limits
        refusal = None
        if gate is not None and not gate.admits(scope):
            refusal = await gate.refusal(scope)
        # Those who are refused are held to them, too.
        if limits.are_set and not self.gateway.workers.sent(scope):
            refusal = limits.refusal(scope) or refusal
            send = limits.telling(scope, send)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"] == "/transactions":
            await self.gateway.ingest.post(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Give the OpenAPI document of all routes."""
        if self.openapi_schema is None:
            settings = self.gateway.settings
            openapi.complete(super().openapi(), transactions.paths(settings), settings)
        assert self.openapi_schema is not None  # noqa: S101 - FastAPI keeps what it made
        return self.openapi_schema


def create(
    settings: ApiSettings, *, on_loopback: bool = True, connections: Connections | None = None
) -> Application:
    """Make the application (see Gateway); its parts start and stop with the server's lifespan."""
    gateway = Gateway(settings, on_loopback=on_loopback, connections=connections)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with gateway.running():
            yield
        if app.tracing is not None:
            app.tracing.stop()

    app = Application(
        gateway,
        title="fraudstream",
        version=version("fraudstream"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_TELEMETRY,
    )
    traced = tracing.start(settings, "api")
    if traced is not None:
        from api.tracing import GatewayTracing  # noqa: PLC0415 - it loads OpenTelemetry

        app.tracing = GatewayTracing(traced, gateway)
    app.enclose()
    app.router.default = slashes.otherwise(app.router)
    problems.install(app)
    routers = [
        gateway.ingest.routes(),
        schemas.routes(),
        streams.routes(gateway.hub, settings, gateway.audit),
        health.routes(gateway),
        metrics.routes(gateway),
        pages.routes(),
        docs.routes(),
        explanations.routes(),
        asyncapi.routes(settings),
    ]
    if gateway.gate is not None:
        routers.append(signin.routes(gateway.gate, settings))
    for router in routers:
        app.include_router(router)
        _answer_head(app, router)
    return app


def _answer_head(app: FastAPI, router: APIRouter) -> None:
    """Answer HEAD wherever GET is answered (RFC 9110, section 9.1); the documents have GET."""
    for route in router.routes:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            app.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                response_model=None,
                include_in_schema=False,
            )
