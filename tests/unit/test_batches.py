"""Many records in one body: each has its result, and what one body takes is bounded."""

import asyncio
import json
from typing import Any

import pytest

from api.ingest import turns
from api.ingest.batch import RECORD_OVERHEAD_BYTES, Batch
from api.ingest.batches import Results, take_array
from api.ingest.budget import Budget
from api.ingest.outbox import Outbox
from api.ingest.producer import Producer
from api.ingest.refusals import MAX_EXPLAINED_BYTES
from api.ingest.verdicts import Verdicts
from api.problems import OVERLOADED, Problem
from api.settings import ApiSettings
from wire.kafka import RawClient

RECORDS = 5_000


def beginning() -> Results:
    """Begin to take one body, at a gateway that has no Kafka yet."""
    settings = ApiSettings(kafka_broker_url="127.0.0.1:1")
    hold = Budget(settings.max_body_bytes_in_flight).hold()
    return Results(Outbox(settings), Verdicts(RECORDS, 1 << 20, 1), settings, hold)


async def refused(record: bytes, count: int = RECORDS) -> dict[str, Any]:
    """Take an array of so many such records, none of which can be taken; give what is told."""
    results = beginning()
    await take_array(b"[" + b",".join([record] * count) + b"]", results, count)
    with pytest.raises(Problem) as caught:
        await results.answer()
    document = json.loads(caught.value.response().body)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("record", "status", "code"),
    [
        (b"{}", 422, "invalid-transaction"),
        (b'{"source":"a","target":"b","amount":1,"%b":1}' % (b"x" * 200), 422, None),
        (b'{"source":"a","target":"b","amount":1,"metadata":{"a":"\xff"}}', 400, "not-json"),
        (b'{"source":"a","target":"b","amount":1}', 503, "kafka-unavailable"),
    ],
    ids=["a field missing", "a field unknown", "no JSON", "no Kafka"],
)
async def test_each_of_many_refused_records_has_its_result(
    record: bytes, status: int, code: str | None
) -> None:
    """All are told of in order, with status and code, however many there are."""
    document = await refused(record)

    assert (document["accepted"], document["rejected"]) == (0, RECORDS)
    assert [each["index"] for each in document["results"]] == list(range(RECORDS))
    assert {each["status"] for each in document["results"]} == {status}
    assert {each["error"]["code"] for each in document["results"]} == {
        code or "invalid-transaction"
    }


async def test_the_refusals_of_one_body_are_explained_up_to_a_bound() -> None:
    """The first ones name each field; once they take much, one sentence stands for the others."""
    document = await refused(b"{}")

    problems = [each["error"] for each in document["results"]]
    explained = [problem for problem in problems if len(problem["errors"]) > 1]
    assert problems[: len(explained)] == explained
    assert [error["pointer"] for error in problems[0]["errors"]] == [
        *("/source", "/target", "/amount")
    ]
    assert problems[len(explained) :] == [problems[-1]] * (RECORDS - len(explained))
    assert problems[-1]["errors"] == [
        {
            "pointer": "",
            "detail": "is not valid; only the body's first refusals are explained",
        }
    ]
    one = len(json.dumps(problems[0], separators=(",", ":")))
    assert len(explained) == -(-MAX_EXPLAINED_BYTES // one)


async def test_a_refused_record_takes_no_more_than_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others are let in as soon as a turn's time is over, be it after a single record."""
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    turns_of_others = 0

    async def others() -> None:
        nonlocal turns_of_others
        while True:
            await asyncio.sleep(0)
            turns_of_others += 1

    task = asyncio.create_task(others())
    await refused(b"{}", 100)
    task.cancel()

    assert turns_of_others >= 100


async def test_an_array_is_refused_whole_where_its_results_have_no_room() -> None:
    """What others hold counts before the first of its records is taken, not in their midst."""
    settings = ApiSettings(kafka_broker_url="127.0.0.1:1")
    budget = Budget(1_000)
    with budget.hold() as others, budget.hold() as hold:
        others.add(900)
        results = Results(Outbox(settings), Verdicts(1, 1 << 20, 1), settings, hold)
        with pytest.raises(Problem) as caught:
            await take_array(b"[{},{}]", results, 2)

    assert (caught.value.kind, len(results)) == (OVERLOADED, 0)


async def test_a_batch_takes_records_up_to_the_first_that_finds_no_room() -> None:
    """None behind it, though it would fit, comes before it; what was taken is weighed."""
    producer = Producer(RawClient([]), "t", batch_bytes=300, timeout_ms=100)
    batch = Batch(0, producer.create_batch())
    keys, values = [b"a"] * 5, [b"1" * 60, b"2" * 60, b"3" * 300, b"4", b"5"]

    assert batch.extend(1, keys, values) == 2
    assert (batch.count, batch.bytes) == (2, 2 * (61 + RECORD_OVERHEAD_BYTES))
    assert batch.extend(1, keys[3:], values[3:]) == 2
    assert (batch.count, batch.bytes) == (4, 2 * 61 + 2 * 2 + 4 * RECORD_OVERHEAD_BYTES)
    assert batch.take(producer).build().count(b"3") == 0
    assert batch.extend(1, keys, values) == 0


def test_a_body_alone_may_be_as_large_as_its_own_limits_let_it() -> None:
    """No body is refused that nobody is in the way of; what was held is given back."""
    budget = Budget(100)
    with budget.hold() as first, budget.hold() as second:
        first.add(200)
        with pytest.raises(Problem):
            second.add(1)
        first.give_back(150)
        second.add(50)
        held = budget.held

    assert (held, budget.held) == (100, 0)
