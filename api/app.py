"""The ASGI application: which address leads to which part."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from api import asyncapi, docs, health, pages, problems, streams
from api.gateway import Gateway
from api.settings import ApiSettings

DESCRIPTION = """\
Transactions in over HTTP, into Kafka; verdicts out over server-sent events, each exactly once.

* `POST /transactions` answers 2xx only after Kafka acknowledged the record with acks=all.
* `GET /stream/{fraud,legit,all}` resumes from `Last-Event-ID` with nothing lost, nothing twice.
* Every error is `application/problem+json` (RFC 9457) with a stable `code`.
"""


def create(settings: ApiSettings) -> FastAPI:
    """Make the application; its parts start and stop with the server's lifespan."""
    gateway = Gateway(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with gateway.running():
            yield

    app = FastAPI(
        title="fraudstream",
        version=version("fraudstream"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    problems.install(app)
    app.include_router(gateway.ingest.routes())
    app.include_router(streams.routes(gateway.hub, settings))
    app.include_router(health.routes(gateway))
    app.include_router(pages.routes())
    app.include_router(docs.routes())
    app.include_router(asyncapi.routes(settings))
    return app
