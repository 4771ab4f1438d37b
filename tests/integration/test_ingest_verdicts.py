"""Verdicts for those who posted: `Prefer: wait`, and GET /transactions/{id}."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from wire import messages
from wire.settings import KafkaSettings

Decide = Callable[..., Awaitable[messages.Verdict]]


async def post(client: httpx.AsyncClient, transaction_id: str, wait: str) -> httpx.Response:
    """Post a transaction and prefer to wait."""
    body = {"transaction_id": transaction_id, "source": "acc-1", "target": "shop", "amount": 1}
    return await client.post("/transactions", json=body, headers={"Prefer": wait})


async def test_the_answer_waits_for_the_verdict(
    gateway: httpx.AsyncClient,
    decide: Decide,
    stored: Callable[[], Awaitable[Any]],
    until: Callable[..., Awaitable[None]],
) -> None:
    """With `Prefer: wait` the answer is 200 with the verdict, as soon as it is there."""
    posting = asyncio.create_task(post(gateway, "t1", "respond-async, wait=20"))
    await until(stored)
    verdict = await decide("t1")
    response = await posting

    body = response.json()
    assert response.status_code == 200
    assert response.headers["Preference-Applied"] == "wait=20"
    assert (body["transaction_id"], body["status"]) == ("t1", "decided")
    assert body["verdict"] == json.loads(messages.encode(verdict))


async def test_when_the_time_is_over_the_answer_is_202(gateway: httpx.AsyncClient) -> None:
    """Without a verdict in time it is the plain 202, and says that it waited."""
    response = await post(gateway, "t1", "wait=1")

    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "wait=1"
    assert response.headers["Location"] == "/transactions/t1"
    assert response.json()["status"] == "accepted"


async def test_a_second_post_gets_the_first_ones_verdict(
    gateway: httpx.AsyncClient, decide: Decide, until: Callable[..., Awaitable[None]]
) -> None:
    """A retry does not wait for a verdict that will not come twice; another account's does."""
    await decide("t1")
    await decide("t2", source="somebody else")

    async def known() -> bool:
        found = [await gateway.get(f"/transactions/{name}") for name in ("t1", "t2")]
        return all(response.status_code == 200 for response in found)

    await until(known)

    assert (await post(gateway, "t1", "wait=20")).status_code == 200
    assert (await post(gateway, "t2", "wait=1")).status_code == 202


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=99", "wait=1"),
        ("WAIT = 0", "wait=0"),
        ('foo="a, wait=9"; bar, wait="0"', "wait=0"),
        ("wait=soon", None),
        ("wait=-1", None),
        ("wait", None),
        ("return=minimal", None),
    ],
)
async def test_a_preference_is_applied_as_far_as_it_goes(
    kafka_settings: KafkaSettings,
    serve_gateway: Callable[..., Any],
    prefer: str,
    applied: str | None,
) -> None:
    """The time is limited to max_wait_seconds; what makes no sense is ignored (RFC 7240)."""
    async with serve_gateway(kafka_settings, max_wait_seconds=1) as client:
        response = await post(client, "t1", prefer)

    assert (response.status_code, response.headers.get("Preference-Applied")) == (202, applied)


async def test_waiters_are_bounded(
    kafka_settings: KafkaSettings, serve_gateway: Callable[..., Any]
) -> None:
    """When enough requests wait already, the next one is answered 202 at once."""
    async with serve_gateway(kafka_settings, max_verdict_waiters=1) as client:
        first, second = await asyncio.gather(
            post(client, "t1", "wait=1"), post(client, "t2", "wait=1")
        )

    applied = [r.headers.get("Preference-Applied") for r in (first, second)]
    assert sorted(map(str, applied)) == ["None", "wait=1"]


async def test_a_transaction_can_be_looked_up(
    gateway: httpx.AsyncClient, decide: Decide, until: Callable[..., Awaitable[None]]
) -> None:
    """404 for one not known, 202 while it is pending, 200 with the verdict then."""
    name = "a/b ü"
    location = (await post(gateway, name, "")).headers["Location"]
    unknown = [await gateway.get(f"/transactions/{name}") for name in ("other", "a%0Ab", "%0A")]
    pending = await gateway.get(location)
    verdict = await decide(name)

    async def known() -> bool:
        return (await gateway.get(location)).status_code == 200

    await until(known)
    decided = (await gateway.get(location)).json()

    assert {(each.status_code, each.json()["code"]) for each in unknown} == {
        (404, "unknown-transaction")
    }
    assert (pending.status_code, pending.json()["status"]) == (202, "pending")
    assert decided["verdict"] == json.loads(messages.encode(verdict))


async def test_verdicts_are_known_again_after_a_restart(
    kafka_settings: KafkaSettings,
    serve_gateway: Callable[..., Any],
    decide: Decide,
    until: Callable[..., Awaitable[None]],
) -> None:
    """A new process reads Kafka's tail: it knows verdicts from before it started."""
    await decide("t1")
    async with serve_gateway(kafka_settings) as client:

        async def known() -> bool:
            return (await client.get("/transactions/t1")).status_code == 200

        await until(known)
