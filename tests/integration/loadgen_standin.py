"""A stand-in for the gateway that misbehaves as told, on a real HTTP server.

As a program: `python loadgen_standin.py` prints its address and serves until it is killed.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import uvicorn

Scope = dict[str, Any]


class Standin:
    """POST /transactions and GET /stream/all, with faults at every n-th transaction (0: never)."""

    def __init__(
        self,
        *,
        lose: int = 0,
        double: int = 0,
        misclassify: int = 0,
        refuse: int = 0,
        break_stream_after: int = 0,
        refuse_to_resume: bool = False,
        stream_after: float = 0.0,
        limit_to_resume: int = 0,
        answer_after: float = 0.0,
    ) -> None:
        self.url = ""
        self.received: list[dict[str, Any]] = []
        self.refused = 0
        self.resumed_from: list[str] = []
        self.lose, self.double, self.misclassify = lose, double, misclassify
        self.refuse = refuse
        self.break_stream_after = break_stream_after
        self.refuse_to_resume = refuse_to_resume
        self.stream_after = stream_after
        self.limit_to_resume = limit_to_resume
        self.answer_after = answer_after
        self._posts = 0
        self._events: list[bytes] = []
        self._more = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["path"] == "/stream/all":
            resumes = b"last-event-id" in dict(scope["headers"])
            if resumes and self.refuse_to_resume:
                await answer(send, 400, b"{}")
            elif resumes and self.limit_to_resume:
                self.limit_to_resume -= 1
                await answer(send, 429, b"{}", (b"retry-after", b"0"))
            else:
                await self._stream_until_left(scope, receive, send)
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message.get("body", b"")
        if scope["path"] == "/transactions":
            await self._post(scope, body, send)
        else:
            await answer(send, 200, b"{}")

    async def _post(self, scope: Scope, body: bytes, send: Any) -> None:
        await asyncio.sleep(self.answer_after)
        if (b"content-type", b"application/x-ndjson") in scope["headers"]:
            await self._batch(body.split(b"\n"), send)
        elif self._take(json.loads(body)):
            await answer(send, 202, b'{"status":"accepted"}')
        else:
            await answer(send, 503, b"{}", (b"retry-after", b"0"))

    async def _batch(self, lines: list[bytes], send: Any) -> None:
        taken = [self._take(json.loads(line)) for line in lines]
        results = [{"index": at, "status": 202 if each else 503} for at, each in enumerate(taken)]
        body = {"accepted": sum(taken), "rejected": len(taken) - sum(taken), "results": results}
        await answer(send, 202 if all(taken) else 207, json.dumps(body).encode())

    def _take(self, transaction: dict[str, Any]) -> bool:
        self._posts += 1
        if self.refuse and self._posts % self.refuse == 0:
            self.refused += 1
            return False
        self.received.append(transaction)
        number = len(self.received)
        fraud = Decimal(transaction["amount"]) > 900
        if self.misclassify and number % self.misclassify == 0:
            fraud = not fraud
        verdict = transaction | {"decision": "fraud" if fraud else "legit"}
        copies = 1 + bool(self.double and number % self.double == 0)
        if self.lose and number % self.lose == 0:
            copies = 0
        self._events += [json.dumps(verdict).encode()] * copies
        self._more.set()
        return True

    async def _stream_until_left(self, scope: Scope, receive: Any, send: Any) -> None:
        streaming = asyncio.create_task(self._stream(scope, send))
        leaving = asyncio.create_task(left(receive))
        await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (streaming, leaving):
            task.cancel()
        await asyncio.wait({streaming, leaving})

    async def _stream(self, scope: Scope, send: Any) -> None:
        headers = dict(scope["headers"])
        if b"last-event-id" in headers:
            self.resumed_from.append(headers[b"last-event-id"].decode())
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        await chunk(send, b"retry: 1000\r\n\r\n")
        await asyncio.sleep(self.stream_after)
        position = int(headers.get(b"last-event-id", b"%d" % len(self._events)))
        await chunk(send, b"id: %d\r\n\r\n" % position)
        given = 0
        while True:
            while position < len(self._events):
                if given == self.break_stream_after > 0 and not self.resumed_from:
                    await send({"type": "http.response.body", "body": b""})
                    return
                event = b"id: %d\r\ndata: %s\r\n\r\n" % (position + 1, self._events[position])
                await chunk(send, event)
                position += 1
                given += 1
            self._more.clear()
            await self._more.wait()


async def left(receive: Any) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Answer with a JSON body."""
    kind = (b"content-type", b"application/json")
    length = (b"content-length", str(len(body)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [kind, length, *headers]}
    )
    await send({"type": "http.response.body", "body": body})


async def chunk(send: Any, body: bytes) -> None:
    """Send a piece of a body that goes on."""
    await send({"type": "http.response.body", "body": body, "more_body": True})


@asynccontextmanager
async def serving(standin: Standin, port: int = 0) -> AsyncIterator[Standin]:
    """Serve it on a free port, or the one given, until the block ends."""
    sock = socket.create_server(("127.0.0.1", port))
    standin.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    config = uvicorn.Config(
        standin,  # type: ignore[arg-type]
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    serve = asyncio.create_task(server.serve([sock]))
    try:
        yield standin
    finally:
        server.should_exit = True
        await serve
        sock.close()


async def main() -> None:
    """Serve until killed."""
    async with serving(Standin()) as standin:
        print(standin.url, flush=True)  # noqa: T201 - how the test learns the address
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
