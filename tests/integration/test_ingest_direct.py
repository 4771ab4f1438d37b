"""POST of one transaction, taken as it comes: nobody can tell, but by the time it takes."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from api.ingest.answers import accepted_written
from wire.settings import KafkaSettings

VALID = b'{"source":"a","target":"b","amount":1,"transaction_id":"t/1"}'
NAMED = "Host: localhost\r\nX-Request-ID: mine\r\n"
JSON = NAMED + "Content-Type: application/json\r\n"


async def sent(client: httpx.AsyncClient, headers: str, body: bytes, *, whole: bool) -> Any:
    """Send a request in one piece or in two; give status line, headers and document."""
    assert client.base_url.port is not None
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = f"POST /transactions HTTP/1.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
    writer.write(head + body if whole else head + body[:-1])
    if not whole:
        before = (await client.get("/healthz")).status_code  # by then the first piece was read
        assert before == 200
        writer.write(body[-1:])
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    named = dict(line.split(": ", 1) for line in lines)
    document = json.loads(await reader.readexactly(int(named["content-length"])))
    writer.close()
    return status, [line for line in lines if not line.startswith("date")], document


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON, VALID, "202"),
        (JSON.replace("json", "json; charset=UTF-8"), VALID, "202"),
        (JSON + "Prefer: return=minimal\r\n", VALID, "202"),
        (JSON, b" " + VALID, "202"),
        (JSON, VALID[:-1], "400"),
        (JSON, VALID.replace(b":1,", b":-1,"), "422"),
        (JSON, VALID + b" " * 20_000, "413"),
        (JSON + "Content-Encoding: gzip\r\n", VALID, "415"),
        (NAMED, VALID, "415"),
        (JSON.replace("localhost", "elsewhere.example"), VALID, "421"),
    ],
)
async def test_a_request_is_answered_alike_in_one_piece_and_in_two(
    shared_gateway: httpx.AsyncClient, headers: str, body: bytes, status: str
) -> None:
    """The same status, the same headers in the same order, the same body but for the offset."""
    whole = await sent(shared_gateway, headers, body, whole=True)
    pieces = await sent(shared_gateway, headers, body, whole=False)

    for _, lines, document in (whole, pieces):
        if document.pop("offset", None) is not None:
            lines[:] = [line for line in lines if not line.startswith("content-length")]
    assert whole == pieces
    assert whole[0].split()[1] == status


@pytest.mark.parametrize("name", ["t1", "t/1", "ä"])
async def test_a_request_is_answered_alike_whether_its_head_came_before(
    shared_gateway: httpx.AsyncClient, name: str
) -> None:
    """The same status, headers and body, but for the offset, the moment and the request's id."""
    assert shared_gateway.base_url.port is not None
    address = shared_gateway.base_url.host, shared_gateway.base_url.port
    reader, writer = await asyncio.open_connection(*address)
    body = json.dumps({"source": "a", "target": "b", "amount": 1, "transaction_id": name}).encode()
    head = f"POST /transactions HTTP/1.1\r\nHost: localhost\r\nX: {name.encode().hex()}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answered = []
    ids = set()
    for _ in range(3):
        writer.write(head.encode() + body)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        named = dict(line.split(": ", 1) for line in lines)
        document = json.loads(await reader.readexactly(int(named.pop("content-length"))))
        ids.add(named.pop("x-request-id"))
        answered.append((status, [*named], named["location"], {**document, "offset": 0}))
    writer.close()

    assert answered == [answered[0]] * 3
    assert answered[0][0] == "HTTP/1.1 202 Accepted"
    assert answered[0][3]["transaction_id"] == name
    assert len(ids) == 3


async def test_those_of_a_batch_that_failed_are_told_which_they_were(
    kafka_settings: KafkaSettings,
    serve_application: Callable[..., Any],
    until: Callable[..., Awaitable[None]],
) -> None:
    """Kafka refuses a batch: its answers have the ids of their own requests and transactions."""
    async with serve_application(kafka_settings) as (client, application):

        async def post(number: int) -> httpx.Response:
            posted = {"source": "a", "target": "b", "amount": 1, "transaction_id": f"t{number}"}
            headers = {"X-Request-ID": f"r{number}"}
            answer: httpx.Response = await client.post(
                "/transactions", json=posted, headers=headers
            )
            return answer

        ingest = application.gateway.ingest
        first = (await post(0)).json()
        producer = await ingest._outbox._link.producer()
        producer._sequences[first["partition"]] += 5  # Kafka refuses a gap after what it has had
        answers = await asyncio.gather(*(post(number) for number in range(1, 9)))

        async def accepted() -> bool:  # by the producer that takes over
            return (await post(9)).status_code == 202

        await until(accepted)

    failed = [answer.json() for answer in answers if answer.status_code == 503]
    assert [answer.json()["transaction_id"] for answer in answers] == [f"t{n}" for n in range(1, 9)]
    assert [answer.headers["X-Request-ID"] for answer in answers] == [f"r{n}" for n in range(1, 9)]
    assert {each["transaction_id"][1:] == each["request_id"][1:] for each in failed} == {True}
    assert "not-acknowledged" in {each["code"] for each in failed}
    assert Counter(each["code"] for each in failed) <= ingest.counts.problems
    assert ingest.counts.requests_in_flight == 0


async def test_a_fault_in_one_answer_spares_the_others(
    kafka_settings: KafkaSettings,
    serve_application: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What can't be answered is cut off; all that came with it are answered."""
    async with serve_application(kafka_settings) as (client, application):
        ingest = application.gateway.ingest

        def fail(transaction_id: str, *place: Any) -> tuple[bytes, bytes]:
            if transaction_id == "t3":
                raise ZeroDivisionError
            return accepted_written(transaction_id, *place)

        monkeypatch.setattr("api.ingest.answers.accepted_written", fail)
        answers = await asyncio.gather(
            *(
                client.post(
                    "/transactions",
                    json={"source": "a", "target": "b", "amount": 1, "transaction_id": f"t{n}"},
                )
                for n in range(8)
            ),
            return_exceptions=True,
        )

    failed = [n for n, each in enumerate(answers) if isinstance(each, httpx.TransportError)]
    assert failed == [3]
    assert all(each.status_code == 202 for n, each in enumerate(answers) if n != 3)
    assert ingest.counts.requests_in_flight == 0
