"""How often a client may ask: token buckets for each address and each credential.

A request costs one token as it comes, and each transaction beyond its first one more as soon as
they are counted; so a batch is worth what is in it, and who sent a large one waits until it is
paid. Each process counts for itself: N of them give up to N times the rate.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final

from starlette.responses import Response
from starlette.types import Message, Scope, Send

from api.edge.clients import address_of, credential_of
from api.edge.settings import EdgeSettings
from api.problems import TOO_MANY, Problem
from api.transport import connection_of
from wire.buckets import Buckets

FREE: Final = ("/healthz", "/readyz", "/static/")
"""Paths that cost nothing: those who watch are not locked out; a refusal costs as much as these."""

REST_S: Final = 0.25
"""How long a client that was refused is not listened to: most of those who ask again at once."""

Spend = Callable[[int], None]
_HELD: Final = "fraudstream.limits"
"""Where the buckets that a request has drawn on are found in its ASGI scope."""


class Policy:
    """One limit: whom it counts, and how it is told (draft-ietf-httpapi-ratelimit-headers-11)."""

    def __init__(self, name: str, rate: float, burst: int, most: int) -> None:
        self.name = name
        self.buckets = Buckets(rate, burst, most)
        window = math.ceil(burst / rate)
        self.text = f'"{name}";q={burst};w={window}'.encode()
        """The policy's item in RateLimit-Policy: the window is what an empty bucket fills in."""

    def state(self, key: Hashable, now: float) -> bytes:
        """Give its item in RateLimit: tokens, and a time to spread them over to go at the rate."""
        left = self.buckets.left(key, now)
        return b'"%b";r=%d;t=%d' % (
            self.name.encode(),
            left,
            max(1, math.ceil(left / self.buckets.rate)),
        )

    def refusal(self, seconds: float) -> Problem:
        """Make the problem of a client that has to wait so long."""
        wait = max(1, math.ceil(seconds))
        return Problem(
            TOO_MANY,
            f"limit_{self.name}_rate: the next request is taken in {wait} s",
            limit=f"limit_{self.name}_rate",
            headers={
                "Retry-After": str(wait),
                "RateLimit": f'"{self.name}";r=0;t={wait}',
                "RateLimit-Policy": self.text.decode(),
            },
        )


class Limits:
    """The limits of one process."""

    def __init__(self, settings: EdgeSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.refused = Counter[str]()
        """Requests refused, by the policy that they were over."""
        self._clock = clock
        self._rests = not settings.trusted_proxies
        most = settings.limit_clients
        self._policies: list[tuple[Policy, Callable[[Scope], str | None]]] = []
        if rate := settings.limit_address_rate:
            policy = Policy("address", rate, settings.limit_address_burst, most)
            self._policies.append((policy, address_of))
        if rate := settings.limit_credential_rate:
            policy = Policy("credential", rate, settings.limit_credential_burst, most)
            self._policies.append((policy, credential_of))
        self.are_set = bool(self._policies)
        """Whether there is any to hold requests to."""
        self._failures = Policy(
            "failure", settings.limit_failure_rate, settings.limit_failure_burst, most
        )

    def refusal(self, scope: Scope) -> Response | None:
        """Let a request (ASGI scope) in, or give the answer that refuses it; who asks is known."""
        if scope["path"].startswith(FREE):
            return None
        now = self._clock()
        held = scope[_HELD] = []
        for policy, key_of in self._policies:
            key = key_of(scope)
            if key is None:
                continue
            wait = policy.buckets.take(key, now)
            if wait:
                self.refused[policy.name] += 1
                self._rest(scope)
                return policy.refusal(wait).response()
            held.append((policy, key))
        return None

    def telling(self, scope: Scope, send: Send) -> Send:
        """Give what sends a request's answer with what is left to its client."""
        held = scope.get(_HELD)
        if not held:
            return send

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers(held)]}
            await send(message)

        return tell

    def spender(self, scope: Scope) -> Spend | None:
        """Give what a request's further transactions are charged by; None if they are not."""
        held = scope.get(_HELD)
        if not held:
            return None

        def spend(tokens: int) -> None:
            now = self._clock()
            for policy, key in held:
                policy.buckets.spend(key, tokens, now)

        return spend

    def failed(self, scope: Scope) -> Problem | None:
        """Count a failed sign-in; give the problem to answer with if there were too many.

        Only failures are refused: whoever shares the address and has a good credential comes in.
        """
        wait = self._failures.buckets.take(address_of(scope), self._clock())
        if not wait:
            return None
        self.refused[self._failures.name] += 1
        return self._failures.refusal(wait)

    def _rest(self, scope: Scope) -> None:
        """Not read a refused client's connection for a while; a proxy's has others' requests."""
        connection = connection_of(scope)
        if connection is not None and self._rests:
            connection.rest(REST_S)

    def _headers(self, held: list[tuple[Policy, str]]) -> list[tuple[bytes, bytes]]:
        now = self._clock()
        return [
            (b"ratelimit", b", ".join(policy.state(key, now) for policy, key in held)),
            (b"ratelimit-policy", b", ".join(policy.text for policy, _ in held)),
        ]
