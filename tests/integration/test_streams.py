"""The streams: live, resumed, replayed, filtered, heard by a parser that isn't ours."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
import httpx_sse
import pytest

from api.streams.position import FRAUD, LEGIT
from tests import foreign
from tests.streaming import DEADLINE_S, Writer, begun, reading
from wire.settings import KafkaSettings

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


async def test_a_verdict_is_seen_on_its_stream_and_only_there(
    gateway: httpx.AsyncClient, writer: Writer
) -> None:
    """Fraud shows on fraud and all; legit on legit and all."""
    async with (
        reading(gateway.base_url, "/stream/fraud") as fraud,
        reading(gateway.base_url, "/stream/legit") as legit,
        reading(gateway.base_url, "/stream/all") as both,
    ):
        for reader in (fraud, legit, both):
            await begun(reader)
        await writer.write(FRAUD, 1)
        await writer.write(LEGIT, 2)
        await writer.write(FRAUD, 1)
        assert await fraud.ids(2) == ["0-1-0", "0-1-1"]
        assert await legit.ids(1) == ["1-2-0"]
        assert sorted(await both.ids(3)) == ["0-1-0", "0-1-1", "1-2-0"]


async def test_the_stream_begins_with_retry_and_a_position(gateway: httpx.AsyncClient) -> None:
    """Whoever loses the connection before the first event resumes too."""
    async with reading(gateway.base_url, "/stream/all") as reader:
        first, second = await reader.block(), await reader.block()
        assert [name for name, _ in first.fields] == ["retry"]
        assert [name for name, _ in second.fields] == ["id"]
        assert reader.response.headers["Content-Type"].startswith("text/event-stream")
        assert reader.response.headers["Cache-Control"] == "no-store"
        assert reader.response.headers["X-Accel-Buffering"] == "no"
        assert reader.response.headers["Vary"] == "Accept"


async def test_each_id_is_the_vector_behind_its_event(
    gateway: httpx.AsyncClient, writer: Writer
) -> None:
    """It stands one past the event's offset, and in the rest where it stood or past a marker."""
    async with reading(gateway.base_url, "/stream/fraud") as reader:
        await begun(reader)
        await writer.write(FRAUD, 0, 1, 1)
        await writer.write(FRAUD, 0)
        behind: dict[int, int] = {}
        for _ in range(4):
            block = await reader.event()
            transaction_id = json.loads(block.get("data") or "")["transaction_id"]
            partition, number = map(int, transaction_id.split("-")[1:])
            behind[partition] = writer.offsets[FRAUD, partition][number] + 1
            assert block.position is not None
            vector = block.position.vectors[FRAUD]
            assert vector[partition] == behind[partition]
            assert all(0 <= vector[p] - offset <= 1 for p, offset in behind.items())


async def test_an_aborted_verdict_is_never_seen(gateway: httpx.AsyncClient, writer: Writer) -> None:
    """The streams read committed records only."""
    async with reading(gateway.base_url, "/stream/fraud") as reader:
        await begun(reader)
        await writer.abort(FRAUD, 0)
        await writer.write(FRAUD, 0)
        assert await reader.ids(1) == ["0-0-0"]


@pytest.mark.parametrize(
    "ring",
    [
        pytest.param({}, id="ring"),
        pytest.param({"stream_ring_events": 2, "stream_tail_records": 0}, id="kafka"),
    ],
)
async def test_a_client_resumes_after_any_event(
    kafka_settings: KafkaSettings, serve_gateway: Serve, writer: Writer, ring: dict[str, int]
) -> None:
    """From each id on, exactly the rest comes: from memory, or from Kafka."""
    async with serve_gateway(kafka_settings, **ring) as gateway:
        async with reading(gateway.base_url, "/stream/all") as reader:
            await begun(reader)
            for number in range(6):
                await writer.write(FRAUD, number % 2, 2)
                await writer.write(LEGIT, 3)
                await writer.abort(LEGIT, 3)
            whole, ids = [], [reader.last_id]
            for _ in range(18):
                whole.append(await reader.id())
                ids.append(reader.last_id)
        for count, last_id in enumerate(ids):
            async with reading(gateway.base_url, "/stream/all", last_id) as again:
                rest = await again.ids(18 - count)
                assert sorted(rest) == sorted(whole[count:])
                assert by_partition(rest) == by_partition(whole[count:])
        async with reading(gateway.base_url, "/stream/all", ids[9]) as again:
            await again.ids(9)
            await writer.write(FRAUD, 0)
            assert await again.ids(1) == ["0-0-3"]


async def test_history_has_what_lies_beside_others_records(
    kafka_settings: KafkaSettings, serve_gateway: Serve, writer: Writer
) -> None:
    """A tombstone, and a header whose name is no text: Kafka takes them from whoever may write."""
    await writer.write(FRAUD, 0)
    await foreign.write(kafka_settings, kafka_settings.fraud_topic, None)
    await writer.write(FRAUD, 0)
    async with (
        serve_gateway(kafka_settings, stream_tail_records=0) as gateway,
        reading(gateway.base_url, "/stream/fraud", since="earliest") as reader,
    ):
        assert await reader.ids(2) == ["0-0-0", "0-0-1"]


async def test_an_id_of_all_resumes_the_streams_it_covers(
    gateway: httpx.AsyncClient, writer: Writer
) -> None:
    """`all` knows where fraud stands; fraud does not know where legit stands."""
    async with reading(gateway.base_url, "/stream/all") as reader:
        await begun(reader)
        await writer.write(LEGIT, 0)
        await writer.write(FRAUD, 0)
        both = reader.last_id
    async with reading(gateway.base_url, "/stream/fraud", both) as reader:
        assert await reader.ids(1) == ["0-0-0"]
        fraud_id = reader.last_id
    answer = await gateway.get("/stream/all", headers={"Last-Event-ID": fraud_id or ""})
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad-position"


async def test_the_header_wins_over_the_query(gateway: httpx.AsyncClient, writer: Writer) -> None:
    """EventSource reconnects to the same address, its header must count."""
    async with reading(gateway.base_url, "/stream/fraud") as reader:
        first = (await begun(reader)).last_id
        await writer.write(FRAUD, 0)
        await reader.ids(1)
        second = reader.last_id
        await writer.write(FRAUD, 0)
        await reader.ids(1)
    async with reading(gateway.base_url, "/stream/fraud", last_event_id=first or "") as reader:
        assert await reader.ids(1) == ["0-0-0"]
    query = {"last_event_id": first or "", "since": "earliest"}
    async with reading(gateway.base_url, "/stream/fraud", second, **query) as reader:
        assert await reader.ids(1) == ["0-0-1"]


async def test_since_takes_times_and_earliest(gateway: httpx.AsyncClient, writer: Writer) -> None:
    """History begins at the first record stamped then or later."""
    now = int(time.time()) * 1000
    for seconds in (-30, -20, -10):
        await writer.write(FRAUD, 0, at_ms=now + seconds * 1000)
    rfc3339 = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now / 1000 - 20))
    for since, expected in (
        ("earliest", ["0-0-0", "0-0-1", "0-0-2"]),
        (str(now - 20_000), ["0-0-1", "0-0-2"]),
        (rfc3339, ["0-0-1", "0-0-2"]),
        (rfc3339.replace("Z", "+00:00"), ["0-0-1", "0-0-2"]),
        (rfc3339.replace("Z", " 00:00"), ["0-0-1", "0-0-2"]),  # as `curl` sends it
        (str(now - 9_999), []),
        ("0", ["0-0-0", "0-0-1", "0-0-2"]),
    ):
        async with reading(gateway.base_url, "/stream/fraud", since=since) as reader:
            await begun(reader)
            assert await reader.ids(len(expected)) == expected
    async with reading(gateway.base_url, "/stream/fraud", since=str(now + 60_000)) as reader:
        await begun(reader)
        await writer.write(FRAUD, 0)
        assert await reader.ids(1) == ["0-0-3"]


async def test_a_bad_parameter_is_a_problem_before_the_stream(gateway: httpx.AsyncClient) -> None:
    """400, problem+json, not to be tried again."""
    for name, value in (
        ("since", "yesterday"),
        ("since", "-1"),
        ("since", "2026-02-30T00:00:00Z"),
        ("since", "2026-11-23T12:00:00"),
        ("since", "2026-11-23 12:00"),
        ("since", "9" * 30),
        ("last_event_id", "12"),
        ("last_event_id", "AQMCAKwCAgf__________3_lUh"),
        ("min_amount", "lots"),
        ("currency", "euro"),
    ):
        answer = await gateway.get("/stream/fraud", params={name: value})
        assert answer.status_code == 400, (name, value)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["retriable"] is False
    answer = await gateway.get("/stream/fraud", headers={"Last-Event-ID": "no position"})
    assert answer.json()["code"] == "bad-position"


async def test_filtered_out_events_move_the_position(
    gateway: httpx.AsyncClient, writer: Writer
) -> None:
    """The id moves without an event, and a resume from it does not look at them again."""
    async with reading(gateway.base_url, "/stream/fraud", account="carl") as reader:
        start = (await begun(reader)).last_id
        await writer.write(FRAUD, 0, 0, 0)
        block = await reader.block()
        assert [name for name, _ in block.fields] == ["id"]
        assert block.position is not None
        assert block.position.vectors[FRAUD][0] > writer.offsets[FRAUD, 0][-1]
        await writer.write(FRAUD, 0, source="carl")
        assert await reader.ids(1) == ["0-0-3"]
    for query, expected in (
        ({"account": "carl"}, "0-0-3"),
        ({"account": "ben"}, "0-0-0"),
        ({"rule": "amount", "min_amount": "900.01", "currency": "EUR"}, "0-0-0"),
    ):
        async with reading(gateway.base_url, "/stream/fraud", start, **query) as reader:
            assert await reader.ids(1) == [expected]


async def test_heartbeats_are_comments(kafka_settings: KafkaSettings, serve_gateway: Serve) -> None:
    """A silent stream is kept alive; no event is dispatched."""
    async with (
        serve_gateway(kafka_settings, stream_heartbeat_seconds=0.2) as gateway,
        reading(gateway.base_url, "/stream/fraud") as reader,
    ):
        await begun(reader)
        beats = [await reader.block() for _ in range(3)]
        assert [beat.fields for beat in beats] == [[("", "heartbeat")]] * 3


async def test_a_client_of_http_1_0_reads_the_stream_itself(
    gateway: httpx.AsyncClient, writer: Writer
) -> None:
    """It does not know chunks: neither the first blocks nor live ones are framed."""
    reader, speaker = await asyncio.open_connection(gateway.base_url.host, gateway.base_url.port)
    speaker.write(b"GET /stream/fraud HTTP/1.0\r\nhost: localhost\r\n\r\n")
    async with asyncio.timeout(DEADLINE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        first, second = [await reader.readuntil(b"\n\n") for _ in range(2)]
        await writer.write(FRAUD, 1)
        while (block := await reader.readuntil(b"\n\n")) == b": heartbeat\n\n":
            pass
    speaker.close()
    assert b"transfer-encoding" not in head
    assert [first[:6], second[:3], block[:3]] == [b"retry:", b"id:", b"id:"]


async def test_an_independent_parser_sees_what_was_written(
    gateway: httpx.AsyncClient, writer: Writer
) -> None:
    """httpx-sse reads the events, their ids and their data, hostile characters and all."""
    hostile = "a\u2028b</script>&lt;\"'\\ é 💥"
    for number in range(3):
        await writer.write(LEGIT, number, source=hostile, metadata={"note\r\n": "x\ndata: y\n\n"})
    path = "/stream/legit?since=earliest"
    async with httpx_sse.aconnect_sse(gateway, "GET", path) as source:
        events = []
        async for event in source.aiter_sse():
            if event.data:  # this parser hands out blocks without data too
                events.append(event)
            if len(events) == 3:
                break
    assert {event.event for event in events} == {"message"}
    assert sorted(json.loads(event.data)["transaction_id"] for event in events) == [
        "1-0-0",
        "1-1-0",
        "1-2-0",
    ]
    assert all(json.loads(event.data)["source"] == hostile for event in events)
    assert all(
        json.loads(event.data)["metadata"] == {"note\r\n": "x\ndata: y\n\n"} for event in events
    )
    assert len({event.id for event in events}) == 3


async def test_a_browser_gets_a_page_and_a_tool_the_stream(gateway: httpx.AsyncClient) -> None:
    """Content negotiation by what Accept prefers."""
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for accept, expected in (
        (browser, "text/html"),
        ("text/event-stream", "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/html;q=0.5, text/event-stream", "text/event-stream"),
        ("application/json", "text/event-stream"),
    ):
        async with gateway.stream("GET", "/stream/all", headers={"Accept": accept}) as answer:
            assert answer.headers["Content-Type"].startswith(expected)
            assert "Accept" in answer.headers["Vary"]
    head = await gateway.head("/stream/all")
    assert head.status_code == 200
    assert head.headers["Content-Type"].startswith("text/event-stream")
    assert "GET" in (await gateway.options("/stream/all")).headers["Allow"]


async def test_limits_refuse_with_a_problem(
    kafka_settings: KafkaSettings, serve_gateway: Serve
) -> None:
    """429 for one address, 503 for all streams and for filters; a closed stream frees its place."""
    limits = {"stream_clients": 3, "stream_clients_per_address": 2, "stream_filters": 1}
    async with serve_gateway(kafka_settings, **limits) as gateway:
        async with reading(gateway.base_url, "/stream/all", account="a"):
            filtered = await gateway.get("/stream/all?account=b")
            assert (filtered.status_code, filtered.json()["code"]) == (503, "overloaded")
            async with reading(gateway.base_url, "/stream/all"):
                refused = await gateway.get("/stream/fraud")
                assert refused.status_code == 429
                assert refused.json()["retriable"] is True
                assert refused.headers["Retry-After"]
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with gateway.stream("GET", "/stream/fraud") as answer:
                    if answer.status_code == 200:
                        break
                await asyncio.sleep(0.05)


async def test_who_wants_little_history_does_not_wait_for_who_wants_all(
    kafka_settings: KafkaSettings, serve_gateway: Serve, writer: Writer
) -> None:
    """They take turns: of a history that takes a minute, another client's few come in between."""
    await writer.write(LEGIT, *([0] * 1200))
    await writer.write(FRAUD, 0, 0, 0)
    bounds = {"stream_tail_records": 0, "stream_ring_events": 1, "stream_page_records": 1}
    pace = {"stream_replays": 1, "stream_replay_records_per_second": 20}
    silent = {"stream_heartbeat_seconds": 3600}  # nothing else comes meanwhile
    async with (
        serve_gateway(kafka_settings, **bounds, **pace, **silent) as gateway,
        reading(gateway.base_url, "/stream/legit?since=earliest") as long,
    ):
        assert await long.ids(1) == ["1-0-0"]
        async with reading(gateway.base_url, "/stream/fraud?since=earliest") as short:
            assert await short.ids(3) == ["0-0-0", "0-0-1", "0-0-2"]
        assert await long.ids(9) == [f"1-0-{n}" for n in range(1, 10)]


async def test_a_stream_can_have_a_life_limit(
    kafka_settings: KafkaSettings, serve_gateway: Serve
) -> None:
    """It ends in order, and the client resumes."""
    async with (
        serve_gateway(kafka_settings, stream_life_seconds=1) as gateway,
        reading(gateway.base_url, "/stream/fraud") as reader,
    ):
        with pytest.raises(EOFError):
            await reader.ids(1)


def by_partition(ids: list[str]) -> dict[str, list[str]]:
    """Split transaction ids by topic and partition, keeping the order."""
    split: dict[str, list[str]] = {}
    for text in ids:
        split.setdefault(text.rpartition("-")[0], []).append(text)
    return split
