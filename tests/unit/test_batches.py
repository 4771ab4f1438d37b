"""Many records in one body: each has its result, and what one body takes is bounded."""

import asyncio
import json
from typing import Any

import pytest

from api.ingest import turns
from api.ingest.batches import Results, take_array
from api.ingest.outbox import Outbox
from api.ingest.refusals import MAX_EXPLAINED_BYTES
from api.ingest.verdicts import Verdicts
from api.problems import Problem
from api.settings import ApiSettings

RECORDS = 5_000


@pytest.fixture
def results() -> Results:
    """The results of one body, at a gateway that has no Kafka yet."""
    settings = ApiSettings(kafka_broker_url="127.0.0.1:1")
    return Results(Outbox(settings), Verdicts(RECORDS, 1), settings)


async def refused(results: Results, record: bytes, count: int = RECORDS) -> dict[str, Any]:
    """Take an array of so many such records, none of which can be taken; give what is told."""
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
    results: Results, record: bytes, status: int, code: str | None
) -> None:
    """All are told of in order, with status and code, however many there are."""
    document = await refused(results, record)

    assert (document["accepted"], document["rejected"]) == (0, RECORDS)
    assert [each["index"] for each in document["results"]] == list(range(RECORDS))
    assert {each["status"] for each in document["results"]} == {status}
    assert {each["error"]["code"] for each in document["results"]} == {
        code or "invalid-transaction"
    }


async def test_the_refusals_of_one_body_are_explained_up_to_a_bound(results: Results) -> None:
    """The first ones name each field; once they take much, one sentence stands for the others."""
    document = await refused(results, b"{}")

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
    results: Results, monkeypatch: pytest.MonkeyPatch
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
    await refused(results, b"{}", 100)
    task.cancel()

    assert turns_of_others >= 100
