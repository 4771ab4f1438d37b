"""The reference: a bare ASGI application that answers 202 and does nothing else."""

from starlette.types import Receive, Scope, Send

BODY = b'{"status":"accepted"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Read a request and answer it."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
