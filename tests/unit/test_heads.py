"""Whole requests, taken without a task, and without being parsed where their head came before."""

import asyncio

import pytest

from api.edge import requestid
from api.exchange import Known
from api.heads import MOST_BYTES, MOST_HEADS, Heads
from tests.raw import DEADLINE_S, POST, Reading, Taking, connected


@pytest.mark.parametrize(
    ("parts", "by"),
    [
        ([POST + b"\r\n{}"], b"taken"),
        ([POST.replace(b"/1.1", b"/1.0") + b"\r\n{}"], b"taken"),
        ([POST.replace(b"/taken", b"/left") + b"\r\n{}"], b"called"),
        ([POST + b"\r\n", b"{}"], b"called"),
        ([POST + b"\r\n{", b"}"], b"called"),
        ([POST + b"expect: 100-continue\r\n\r\n{}"], b"called"),
    ],
    ids=["whole", "1.0", "left", "header first", "in two", "expects to be asked"],
)
async def test_only_a_whole_request_is_taken(parts: list[bytes], by: bytes) -> None:
    """An application is offered what came whole, and is called for all that it does not take."""
    application = Taking()
    async with connected(application) as (reader, writer):
        writer.write(parts[0])
        for part in parts[1:]:
            await asyncio.wait_for(application.called.wait(), DEADLINE_S)
            writer.write(part)
        received = await reader.read()

    assert received.endswith(b"\r\n\r\n" + by)
    assert b"connection: close" in received


HEAD = POST.replace(b"connection: close\r\n", b"") + b"\r\n"


async def test_a_head_that_came_before_is_not_parsed_again() -> None:
    """Its request is the same to who takes it, with its own body and an id of its own."""
    application = Taking()
    async with connected(application) as (reader, writer):
        for body in (b"{}", b"[]"):
            writer.write(HEAD + body)
            await reader.readuntil(b"taken")

    first, second = application.taken
    assert [isinstance(each, Known) for each in application.taken] == [False, True]
    assert [bytes(each.body) for each in application.taken] == [b"{}", b"[]"]
    assert first.request_id != second.request_id
    parsed, known = (
        {key: value for key, value in each.scope.items() if key != requestid.SCOPE}
        for each in application.taken
    )
    assert known == {key: parsed[key] for key in known}


@pytest.mark.parametrize(
    ("parts", "by"),
    [
        ([HEAD, b"{}"], [b"called"]),
        ([HEAD + b"{", b"}"], [b"called"]),
        ([HEAD[:-1], HEAD[-1:] + b"{}"], [b"taken"]),
        ([HEAD + b"no"], [b"called"]),
        ([b"\r\n" + HEAD + b"{}"], [b"taken"]),
        ([HEAD + b"{}" + HEAD + b"{}"], [b"taken", b"called"]),
        ([HEAD.replace(b" 2", b" 3") + b"{ }" + HEAD + b"{}"], [b"taken", b"called"]),
        ([HEAD + b"{}" + POST[:9], POST[9:] + b"\r\n{}"], [b"taken", b"taken"]),
    ],
    ids=["body later", "in two", "head in two", "left", "empty line", "two", "longer", "and more"],
)
async def test_a_head_that_came_before_is_known_by_all_of_it(
    parts: list[bytes], by: list[bytes]
) -> None:
    """What does not come as it came then is parsed, and so is what follows."""
    application = Taking()
    read = Reading()
    async with connected(application, read.http) as (reader, writer):
        for _ in range(2):
            writer.write(HEAD + b"{}")
            await reader.readuntil(b"taken")
            await read.next()
        before = len(application.taken)
        for part in parts:
            writer.write(part)
            assert await read.next() == part
        for each in by:
            head, _, rest = (await reader.readuntil(each)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert rest == each

    assert not any(isinstance(each, Known) for each in application.taken[before:])


def test_heads_are_forgotten_before_they_are_too_many() -> None:
    """Who sends another head each time fills no memory, and who sends a large one none at all."""
    heads = Heads()
    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b""}
    scope |= {"http_version": "1.1", "headers": []}
    sent = [b"POST / HTTP/1.1\r\nn: %d\r\n\r\n{}" % number for number in range(MOST_HEADS + 1)]
    large = sent[0].replace(b" 0", b" " * MOST_BYTES)
    known = []
    for data in [large, *sent]:
        heads.note(data, scope, 2, lambda _: True)
        known.append([heads.find(each) is not None for each in (large, sent[0], data)])

    assert known == [[False] * 3, *[[False, True, True]] * MOST_HEADS, [False, False, True]]


async def test_a_client_that_does_not_read_is_not_taken_from() -> None:
    """Else the answers to all that it sends would gather in the connection's buffer."""
    application = Taking(padding=1_000_000)
    async with connected(application) as (_, writer), asyncio.timeout(DEADLINE_S):
        while not application.called.is_set():
            application.asked.clear()
            writer.write(POST.replace(b"connection: close\r\n", b"") + b"\r\n{}")
            either = [
                asyncio.create_task(e.wait()) for e in (application.asked, application.called)
            ]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for task in either:
                task.cancel()

    assert application.called.is_set()


async def test_an_answer_to_a_client_that_has_left_is_dropped() -> None:
    """A request may be answered long after its connection has gone."""
    application = Taking()
    async with connected(application) as (_, writer):
        writer.write(POST.replace(b"/taken", b"/kept") + b"\r\n{}")
        await asyncio.wait_for(application.asked.wait(), DEADLINE_S)
        exchange = application.taken[0]
        exchange.transport.abort()
        exchange.answer(*application.answer(b"late"))

    assert not exchange.response_started
