"""Limits by address and by credential, with answers that say what is left."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.guarded import BODY, named
from wire.settings import TopicSettings

NDJSON = {"Content-Type": "application/x-ndjson"}
Serve = Callable[..., Any]


async def test_an_address_is_held_to_its_rate(
    shared_settings: TopicSettings, serve_gateway: Serve
) -> None:
    """Burst, then 429 with when to come back; health is free; all answers say what is left."""
    async with serve_gateway(
        shared_settings, limit_address_rate=0.02, limit_address_burst=3
    ) as client:
        answers = [await client.post("/transactions", json=BODY) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 202]
        assert [answer.headers["ratelimit"] for answer in answers] == [
            '"address";r=2;t=100', '"address";r=1;t=50', '"address";r=0;t=1',
        ]  # fmt: skip
        assert answers[0].headers["ratelimit-policy"] == '"address";q=3;w=150'
        for path in ("/transactions", "/stream/all", "/metrics", "/problems", "/none"):
            refused = await client.get(path)
            assert refused.status_code == 429
            problem = refused.json()
            assert (problem["code"], problem["limit"]) == (
                "too-many-requests",
                "limit_address_rate",
            )
            assert 45 <= int(refused.headers["retry-after"]) <= 50
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("form", ["array", "lines", "lines cut short"])
async def test_a_batch_is_worth_its_transactions(
    shared_settings: TopicSettings, serve_gateway: Serve, form: str
) -> None:
    """It is taken whole, and its client waits until all of it is paid."""
    body = [BODY] * 50
    async with serve_gateway(
        shared_settings, limit_address_rate=1, limit_address_burst=10
    ) as client:
        if form == "array":
            answer = await client.post("/transactions", json=body)
        else:
            lines = "\n".join(map(json.dumps, body)) + "\n" + "x" * 20_000 * (form != "lines")
            answer = await client.post("/transactions", content=lines, headers=NDJSON)
        assert answer.json()["accepted"] == 50
        assert answer.headers["ratelimit"] == '"address";r=0;t=1'
        refused = await client.post("/transactions", json=BODY)
        assert refused.status_code == 429
        assert 38 <= int(refused.headers["retry-after"]) <= 42


async def test_each_credential_has_its_own(
    shared_settings: TopicSettings, serve_gateway: Serve
) -> None:
    """Requests and open streams are counted for each, though all come from one address."""
    async with serve_gateway(
        shared_settings, wrap=named, limit_credential_rate=0.01, limit_credential_burst=2,
        stream_clients_per_credential=1,
    ) as client:  # fmt: skip

        async def status(of: str) -> int:
            answer = await client.post("/transactions", json=BODY, headers={"x-is": of})
            return answer.status_code

        assert [await status("a") for _ in range(3)] == [202, 202, 429]
        assert [await status("b") for _ in range(3)] == [202, 202, 429]
        headers = {"x-is": "c"}
        async with client.stream("GET", "/stream/all", headers=headers) as stream:
            assert stream.headers["ratelimit"] == '"credential";r=1;t=100'
            await anext(stream.aiter_lines())
            second = await client.get("/stream/all", headers=headers)
            assert (second.status_code, second.json()["code"]) == (429, "too-many-requests")
            assert "credential" in second.json()["detail"]


@pytest.mark.parametrize(
    ("trusted", "statuses"),
    [("192.0.2.0/24", [202, 429, 429, 429]), ("127.0.0.1,10.0.0.0/8", [202, 202, 429, 429])],
)
async def test_only_trusted_proxies_say_who_comes(
    shared_settings: TopicSettings, serve_gateway: Serve, trusted: str, statuses: list[int]
) -> None:
    """A made-up X-Forwarded-For changes nothing; from a proxy it counts, from its right end."""
    async with serve_gateway(
        shared_settings, api_trusted_proxies=trusted,
        limit_address_rate=0.01, limit_address_burst=1,
    ) as client:  # fmt: skip
        # The wait for it to be ready took its one token if it was asked as 127.0.0.1: health is
        # free. The last two are the second's: what it claims to have come by is not believed.
        forwarded = ("203.0.113.1", "203.0.113.2", "203.0.113.9, 203.0.113.2, 10.1.1.1",
                     "2001:db8::1, 203.0.113.2")  # fmt: skip
        found = [
            (
                await client.post("/transactions", json=BODY, headers={"X-Forwarded-For": each})
            ).status_code
            for each in forwarded
        ]
    assert found == statuses
