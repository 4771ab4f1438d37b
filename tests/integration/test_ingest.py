"""POST /transactions on a real Kafka: what is answered, and what lies in the topic."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from wire.messages import Transaction
from wire.settings import KafkaSettings

Stored = Callable[[], Awaitable[list[tuple[int, int, Transaction]]]]
Until = Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]
NDJSON = {"Content-Type": "application/x-ndjson"}


def posted(number: int = 1, **given: Any) -> dict[str, Any]:
    """Give a transaction as a client would send it."""
    return {"source": f"acc-{number}", "target": "shop", "amount": 12.5} | given


async def test_a_transaction_is_answered_with_its_place_in_kafka(
    gateway: httpx.AsyncClient, kafka_settings: KafkaSettings, stored: Stored
) -> None:
    """The 202 names topic, partition and offset, and the record lies exactly there."""
    response = await gateway.post("/transactions", json=posted(transaction_id="a/b ü"))

    body = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == "/transactions/a%2Fb%20%C3%BC"
    [(partition, offset, transaction)] = await stored()
    assert body == {
        "transaction_id": "a/b ü",
        "status": "accepted",
        "topic": kafka_settings.transactions_topic,
        "partition": partition,
        "offset": offset,
    }
    assert (transaction.transaction_id, str(transaction.amount)) == ("a/b ü", "12.5")


async def test_concurrent_posts_get_their_own_offsets(
    gateway: httpx.AsyncClient, stored: Stored
) -> None:
    """Records that travel in one batch are each answered with their own offset."""
    responses = await asyncio.gather(
        *(gateway.post("/transactions", json=posted(n)) for n in range(100))
    )

    answered = {
        (r.json()["partition"], r.json()["offset"], r.json()["transaction_id"]) for r in responses
    }
    assert {r.status_code for r in responses} == {202}
    assert answered == {(p, o, t.transaction_id) for p, o, t in await stored()}


async def test_an_account_stays_in_one_partition_in_order(
    gateway: httpx.AsyncClient, stored: Stored
) -> None:
    """Records of one account in one body lie in Kafka in the order of the body."""
    lines = [json.dumps(posted(n % 3, transaction_id=f"t{n:04}")) for n in range(3000)]
    response = await gateway.post("/transactions", content="\n".join(lines), headers=NDJSON)

    assert response.json()["accepted"] == 3000
    by_account: dict[str, list[tuple[int, int, str]]] = {}
    for partition, offset, transaction in await stored():
        place = (partition, offset, transaction.transaction_id)
        by_account.setdefault(transaction.source, []).append(place)
    for places in by_account.values():
        assert len({partition for partition, _, _ in places}) == 1
        assert [i for _, _, i in sorted(places)] == sorted(i for _, _, i in places)


async def test_an_array_is_answered_record_by_record(
    gateway: httpx.AsyncClient, stored: Stored
) -> None:
    """207 when some records of an array are refused, with every result in order."""
    body = [posted(transaction_id="first"), posted(amount=0), posted(transaction_id="third")]
    response = await gateway.post("/transactions", json=body)

    answer = response.json()
    assert (response.status_code, answer["accepted"], answer["rejected"]) == (207, 2, 1)
    assert [(r["index"], r["status"]) for r in answer["results"]] == [(0, 202), (1, 422), (2, 202)]
    assert answer["results"][0]["transaction_id"] == "first"
    assert answer["results"][1]["error"]["code"] == "invalid-transaction"
    assert answer["results"][1]["error"]["errors"][0]["pointer"] == "/amount"
    assert {t.transaction_id for _, _, t in await stored()} == {"first", "third"}


@pytest.mark.parametrize(
    ("content", "status", "accepted", "rejected"),
    [
        (b'{"source":"a","target":"b","amount":1}\n', 202, 1, 0),
        (b'\r\n{"source":"a","target":"b","amount":1}\r\n\n{"source":"a"}', 207, 1, 1),
        (b"{}\nnot json\n", 422, 0, 2),
        (b"", 422, 0, 0),
        (b"\n \n", 422, 0, 0),
        (
            b'{"source":"' + b"a" * 100_000 + b'"}\n{"source":"a","target":"b","amount":1}',
            207,
            1,
            1,
        ),
    ],
    ids=["one line", "blank lines", "all bad", "empty", "only blank", "a long line"],
)
async def test_ndjson_is_answered_record_by_record(
    shared_gateway: httpx.AsyncClient, content: bytes, status: int, accepted: int, rejected: int
) -> None:
    """NDJSON gives 202, 207 or 422 by what became of its lines."""
    response = await shared_gateway.post("/transactions", content=content, headers=NDJSON)

    answer = response.json()
    assert (response.status_code, answer["accepted"], answer["rejected"]) == (
        status,
        accepted,
        rejected,
    )
    assert [r["index"] for r in answer["results"]] == list(range(accepted + rejected))


async def test_ndjson_is_taken_while_it_arrives(
    gateway: httpx.AsyncClient, stored: Stored, until: Until
) -> None:
    """A line is in Kafka before the body that it came in has ended."""
    seen = asyncio.Event()

    async def body() -> Any:
        yield (json.dumps(posted(transaction_id="early")) + "\n").encode()
        await until(stored)
        seen.set()
        yield json.dumps(posted(transaction_id="late")).encode()

    response = await gateway.post("/transactions", content=body(), headers=NDJSON)

    assert seen.is_set()
    assert response.json()["accepted"] == 2


async def test_past_the_limit_in_flight_the_answer_is_503_at_once(
    kafka_settings: KafkaSettings, serve_gateway: Callable[..., Any]
) -> None:
    """One request waits, the next is refused, and names the limit."""
    async with serve_gateway(kafka_settings, max_requests_in_flight=1) as client:
        headers = {"Prefer": "wait=1"}
        first, second = await asyncio.gather(
            client.post("/transactions", json=posted(1), headers=headers),
            client.post("/transactions", json=posted(2), headers=headers),
        )

    answered, refused = sorted((first, second), key=lambda response: response.status_code)
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (503, "overloaded")
    assert (problem["limit"], problem["retriable"]) == ("max_requests_in_flight", True)
    assert refused.headers["Retry-After"] == "1"
    assert answered.status_code == 202


async def test_a_whole_body_that_is_too_large_takes_no_more_time_than_its_answer(
    kafka_settings: KafkaSettings, serve_gateway: Callable[..., Any]
) -> None:
    """Nothing more of it can come, for which it had to wait in its place among those in flight."""
    async with serve_gateway(kafka_settings, max_requests_in_flight=1) as client:
        headers = {"Content-Type": "application/json"}
        answers = [
            await client.post("/transactions", content=b"{" + b" " * 20_000, headers=headers)
            for _ in range(3)
        ]

    assert [answer.status_code for answer in answers] == [413] * 3


async def test_past_the_bytes_in_flight_a_large_body_waits_its_turn(
    kafka_settings: KafkaSettings, serve_gateway: Callable[..., Any]
) -> None:
    """NDJSON that is larger than what may be in flight is taken as room comes free."""
    lines = [json.dumps(posted(n)) for n in range(3000)]
    async with serve_gateway(kafka_settings, max_bytes_in_flight=65_536) as client:
        response = await client.post("/transactions", content="\n".join(lines), headers=NDJSON)

    assert (response.status_code, response.json()["accepted"]) == (202, 3000)
