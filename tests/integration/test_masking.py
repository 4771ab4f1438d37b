"""Accounts hidden by scope, beside others who see them: streams, look-ups, waits."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from api.access.principal import PRINCIPAL, Principal
from api.masking import Mask
from api.streams.position import FRAUD
from tests.streaming import Reader, reading, verdict, writing
from wire.messages import Reason, Verdict, decode_verdict
from wire.settings import TopicSettings

KEY = "c4n4ry-key-of-the-deployment"
MASK = Mask(KEY.encode())
Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]
AUDITOR = {"x-scopes": "stream:fraud accounts:read"}
ANALYST = {"x-scopes": "stream:fraud"}


def signed_in(inner: ASGIApp) -> ASGIApp:
    """Have a header say who someone is."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope.get("headers", ()):
            if name == b"x-scopes":
                scopes = frozenset(value.decode().split())
                scope[PRINCIPAL] = Principal("key:test", "test", scopes)
        await inner(scope, receive, send)

    return application


@pytest.fixture
async def gateway(
    serve_gateway: Serve, kafka_settings: TopicSettings
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a gateway that hides accounts from who has no scope for them."""
    masking = {"stream_mask_accounts": "unless-scope", "stream_mask_key": KEY}
    async with serve_gateway(kafka_settings, wrap=signed_in, **masking) as client:
        yield client


async def shown(stream: Reader) -> tuple[str, Verdict]:
    """Give the next verdict: as it came, and decoded."""
    text = (await stream.event()).get("data") or ""
    return text, decode_verdict(text.encode())


REASONS = (Reason("list", "1", "payments from anna to ben are listed"),)


async def test_each_sees_what_it_may(
    gateway: httpx.AsyncClient, kafka_settings: TopicSettings
) -> None:
    """Live and from history: accounts for one, masked ids for the other; the same events."""
    url, name = gateway.base_url, kafka_settings.fraud_topic
    async with writing(kafka_settings, name) as writer:
        async with (
            reading(url, "/stream/fraud", headers=ANALYST) as analyst,
            reading(url, "/stream/fraud", headers=AUDITOR) as auditor,
            reading(url, "/stream/all") as anyone,
        ):
            for stream in (analyst, auditor, anyone):
                while stream.last_id is None:
                    await stream.block()
            await writer.write(FRAUD, 1, reasons=REASONS, metadata={"note": "for anna"})
            clear, found = await shown(auditor)
            assert (found.source, found.target) == ("anna", "ben")
            for stream in (analyst, anyone):
                text, found = await shown(stream)
                assert text.encode() == MASK.verdict(clear.encode())
                assert "anna" not in text
                assert "ben" not in text
            assert analyst.last_id == auditor.last_id
        for headers in (ANALYST, AUDITOR):
            path = "/stream/fraud?since=earliest"
            async with reading(url, path, headers=headers) as stream:
                text, _ = await shown(stream)
                assert ("anna" in text) == (headers is AUDITOR)


async def test_filters_do_not_tell(
    gateway: httpx.AsyncClient, kafka_settings: TopicSettings
) -> None:
    """An account is asked for by its masked id; by its own only by who sees it."""
    refused = await gateway.get("/stream/fraud?account=anna", headers=ANALYST)
    assert refused.status_code == 400
    assert refused.json()["code"] == "bad-filter"
    unknown = await gateway.get("/stream/fraud?account=nobody-has-this", headers=ANALYST)
    problems = [answer.json() | {"request_id": ""} for answer in (unknown, refused)]
    assert problems[0] == problems[1]
    url, name = gateway.base_url, kafka_settings.fraud_topic
    path = f"/stream/fraud?since=earliest&account={MASK.account('anna')}"
    async with writing(kafka_settings, name) as writer:
        await writer.write(FRAUD, 1, source="eve", target="mallory")
        await writer.write(FRAUD, 1, source="anna")
    for headers in (ANALYST, AUDITOR):
        async with reading(url, path, headers=headers) as stream:
            text, found = await shown(stream)
            assert found.transaction_id == f"{FRAUD}-1-1"
            assert ("anna" in text) == (headers is AUDITOR)


async def test_verdicts_by_id(gateway: httpx.AsyncClient, kafka_settings: TopicSettings) -> None:
    """A look-up, and an answer that waited, show no more than the stream."""
    body = {"source": "anna", "target": "ben", "amount": "1", "transaction_id": "t1"}
    async with writing(kafka_settings, kafka_settings.fraud_topic) as writer:
        value = verdict("t1", reasons=REASONS)
        await writer.producer.begin_transaction()
        await writer.producer.send_and_wait(kafka_settings.fraud_topic, value, partition=0)
        await writer.producer.commit_transaction()
        for headers in (ANALYST, AUDITOR):
            wait = headers | {"Prefer": "wait=20"}
            answer = await gateway.post("/transactions", json=body, headers=wait)
            assert answer.status_code == 200
            assert ("anna" in answer.text) == (headers is AUDITOR)
            answer = await gateway.get("/transactions/t1", headers=headers)
            assert answer.status_code == 200
            assert ("anna" in answer.text) == (headers is AUDITOR)


async def test_gateways_with_one_key_agree(
    serve_gateway: Serve, kafka_settings: TopicSettings
) -> None:
    """Another gateway, and one that hides accounts from all, give the same masked ids."""
    async with writing(kafka_settings, kafka_settings.fraud_topic) as writer:
        await writer.write(FRAUD, 0)
    found = set()
    for mode in ("always", "unless-scope"):
        masking = {"stream_mask_accounts": mode, "stream_mask_key": KEY}
        async with (
            serve_gateway(kafka_settings, **masking) as client,
            reading(client.base_url, "/stream/fraud?since=earliest") as stream,
        ):
            found.add((await shown(stream))[0])
    assert len(found) == 1
