"""The reference: a hub as one would write it on sse-starlette, with a queue for each client.

One consumer, one queue and one send for each client and event; no ids, no resume, no filters.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wire import kafka
from wire.settings import KafkaSettings

QUEUE_EVENTS = 10_000
queues: set[asyncio.Queue[str]] = set()


async def follow(topic: str) -> None:
    """Read the topic, and put each record into each queue."""
    settings = KafkaSettings()
    consumer = await kafka.start(
        lambda: kafka.consumer(settings, auto_offset_reset="latest", fetch_max_wait_ms=20)
    )
    consumer.subscribe([topic])
    async for record in consumer:
        data = record.value.decode()
        for queue in queues:
            queue.put_nowait(data)


async def events() -> AsyncGenerator[ServerSentEvent, None]:
    """Give one client's events."""
    queue: asyncio.Queue[str] = asyncio.Queue(QUEUE_EVENTS)
    queues.add(queue)
    try:
        yield ServerSentEvent(retry=2000)
        while True:
            yield ServerSentEvent(await queue.get())
    finally:
        queues.discard(queue)


async def stream(_request: Request) -> Response:
    """Answer with the stream."""
    return EventSourceResponse(events())


async def status(_request: Request) -> Response:
    """Look like the gateway to whoever waits for it."""
    return JSONResponse({"streams": {"all": {"following": True}}})


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """Follow while the server runs."""
    following = asyncio.create_task(follow(os.environ["LEGIT_TOPIC"]))
    yield
    following.cancel()


if __name__ == "__main__":
    routes = [Route("/stream/legit", stream), Route("/status.json", status)]
    config = uvicorn.Config(
        Starlette(routes=routes, lifespan=lifespan),
        loop="uvloop",
        log_level="error",
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
