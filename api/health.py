"""Health: is the loop alive, can the gateway do its work, and what it is following."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from api.access.principal import PRINCIPAL, Principal
from api.gateway import Gateway
from api.openapi import problem
from api.problems import NOT_READY, Problem

NO_STORE = {"Cache-Control": "no-store"}


def routes(gateway: Gateway) -> APIRouter:
    """Make `/healthz`, `/readyz` and `/status.json`."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Is the event loop alive?", response_description="It is.")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get(
        "/readyz",
        summary="Can transactions be taken, and do the streams follow?",
        response_description="Both.",
        responses={503: problem("Not now: see `ingest` and `streams`.", NOT_READY)},
    )
    async def readyz() -> JSONResponse:
        ingest, streams = gateway.ingest.ready, gateway.hub.following
        if not (ingest and streams):
            detail = "Kafka is away, or the streams do not follow it"
            raise Problem(NOT_READY, detail, ingest=ingest, streams=streams)
        body = {"status": "ready", "ingest": ingest, "streams": streams}
        return JSONResponse(body, headers=NO_STORE)

    @router.get("/status.json", summary="What the dashboard shows", include_in_schema=False)
    async def status(request: Request) -> JSONResponse:
        body: dict[str, Any] = {
            "ready": gateway.ready,
            "kafka_connected": gateway.ingest.ready,
            "streams": gateway.hub.status(),
            "principal": _described(request.scope.get(PRINCIPAL)),
            "started_at": gateway.started_at.isoformat(),
            "version": version("fraudstream"),
            # For a page's latency: its clock may differ from this one.
            "now": datetime.now(UTC).isoformat(),
            # For a page's streams: without heartbeats a connection is dead.
            "heartbeat_seconds": gateway.hub.settings.stream_heartbeat_seconds,
        }
        return JSONResponse(body, headers=NO_STORE)

    return router


def _described(principal: Principal | None) -> dict[str, Any] | None:
    if principal is None:
        return None
    return {"id": principal.id, "name": principal.name, "scopes": sorted(principal.scopes)}
