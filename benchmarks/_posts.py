"""Drives POSTs from a process of its own, as cheaply as Python can: `python -m benchmarks._posts`.

Reads one Plan as JSON from standard input, prints one JSON object: how many answers of which
status, and percentiles in milliseconds: of the latencies, since a request was due, and of the
answers, since it was sent.
"""

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import uvloop

ACCOUNTS = 5_000
POOL = 4_000


@dataclass(frozen=True)
class Plan:
    """What to send."""

    port: int
    seconds: float
    connections: int
    rate: int = 0
    """Requests a second (open loop); 0: each connection sends as soon as it is answered."""
    records: int = 1
    """Transactions in a request; more than one go as NDJSON."""
    wait: int = 0
    """Seconds that it prefers to wait for the verdict."""
    credential: str = ""
    """API key or token, if the gateway asks for one."""
    numbered: bool = False
    """Whether each request has an id in its head, so that no head comes twice for a while."""


class Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.received = b""
        self.due = 0.0
        self.sent = 0.0
        self.transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note what to write to."""
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at this time."""
        self.due = due
        self.sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take in an answer, or a part of one."""
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if found:
            at = head.lower().index(b"content-length:") + 15
            if len(rest) >= int(head[at:].split(b"\r\n", 1)[0]):
                self.received = b""
                now = time.perf_counter()
                self.run.answered(int(head[9:12]), now - self.due, now - self.sent)
                self.run.idle(self)


class Run:
    """One measurement."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = itertools.cycle(list(requests(plan)))
        self.statuses = Counter[int]()
        self.latencies: dict[int, list[float]] = {}
        self.answers: dict[int, list[float]] = {}
        self.due = deque[float]()
        self.free = deque[Connection]()
        self.until = 0.0

    async def measure(self) -> dict[str, Any]:
        """Send for as long as planned."""
        loop = asyncio.get_running_loop()
        connections = []
        for _ in range(self.plan.connections):
            _, made = await loop.create_connection(
                lambda: Connection(self), "127.0.0.1", self.plan.port
            )
            connections.append(made)
        began = time.perf_counter()
        self.until = began + self.plan.seconds
        for connection in connections:
            self.idle(connection)
        if self.plan.rate:
            await self.send_in_time()
        await asyncio.sleep(max(0.0, self.until - time.perf_counter()))
        took = time.perf_counter() - began
        return {
            "statuses": self.statuses,
            "seconds": took,
            "latencies_ms": {each: percentiles(of) for each, of in self.latencies.items()},
            "answer_ms": {each: percentiles(of) for each, of in self.answers.items()},
        }

    async def send_in_time(self) -> None:
        """Send each request when it is due, or as soon as a connection is free (and count that)."""
        next_due = time.perf_counter()
        while next_due < self.until:
            while next_due <= time.perf_counter():
                self.due.append(next_due)
                next_due += 1 / self.plan.rate
            while self.due and self.free:
                self.free.popleft().send(next(self.requests), self.due.popleft())
            await asyncio.sleep(0.001)

    def idle(self, connection: Connection) -> None:
        """Give a free connection its next request."""
        now = time.perf_counter()
        if now >= self.until:
            return
        if self.plan.rate == 0:
            connection.send(next(self.requests), now)
        elif self.due:
            connection.send(next(self.requests), self.due.popleft())
        else:
            self.free.append(connection)

    def answered(self, status: int, latency: float, answer: float) -> None:
        """Note an answer."""
        self.statuses[status] += 1
        self.latencies.setdefault(status, []).append(latency)
        self.answers.setdefault(status, []).append(answer)


def requests(plan: Plan) -> Iterator[bytes]:
    """Make the requests that are sent in turn."""
    media_type = "application/json" if plan.records == 1 else "application/x-ndjson"
    prefer = f"Prefer: wait={plan.wait}\r\n" if plan.wait else ""
    if plan.credential:
        prefer += f"Authorization: Bearer {plan.credential}\r\n"
    for number in range(max(16, POOL // plan.records)):
        body = "\n".join(transaction() for _ in range(plan.records))
        numbered = f"X-Request-Id: bench-{number}\r\n" if plan.numbered else ""
        yield (
            "POST /transactions HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {media_type}\r\n{prefer}{numbered}"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


def transaction() -> str:
    """Make a transaction between two of the accounts."""
    source, target = random.sample(range(ACCOUNTS), 2)
    return json.dumps(
        {
            "source": f"acc-{source:06}",
            "target": f"acc-{target:06}",
            "amount": f"{random.randrange(1, 150_000) / 100:.2f}",
            "currency": "EUR",
        },
        separators=(",", ":"),
    )


def percentiles(values: list[float]) -> dict[str, float]:
    """Give p50 and p99 in milliseconds."""
    ordered = sorted(values)
    return {
        f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1000, 2)
        for share in (50, 99)
    }


if __name__ == "__main__":
    plan = Plan(**json.load(sys.stdin))
    print(json.dumps(uvloop.run(Run(plan).measure())))
