"""The load generator against a gateway that answers, refuses, stalls, and lies."""

import asyncio
import importlib.util
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from loadgen import report
from loadgen.errors import TargetDownError
from loadgen.measure import Latency
from loadgen.run import until
from loadgen.service import watch
from loadgen.settings import LoadgenSettings
from loadgen.share import Share
from loadgen.summary import Summary
from loadgen.target_http import HttpTarget
from loadgen.targets import ACCEPTED, Record
from tests.trust import TRUST

STANDIN = Path(__file__).with_name("loadgen_standin.py")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


standins = _load(STANDIN)


async def run(url: str, **given: Any) -> Summary:
    """Do a short run: 400 transactions within a second, verified."""
    options: dict[str, Any] = {
        "loadgen_url": url,
        "transactions_per_second": 400,
        "loadgen_duration": 1,
        "loadgen_verify": True,
        "loadgen_settle": 0.3,
        "loadgen_accounts": 100,
    }
    settings = LoadgenSettings(**(options | given))
    share = Share(settings)
    try:
        await share.prepare()
        return (await watch(settings, share)).summary
    finally:
        await share.close()


async def test_every_transaction_is_sent_accepted_and_decided() -> None:
    """400 due, 400 sent with ids of their own, 400 verdicts, no fault, and no label on the way."""
    async with standins.serving(standins.Standin()) as gateway:
        found = await run(gateway.url)
    assert (found.due, found.sent, found.accepted, found.failed) == (400, 400, 400, 0)
    assert found.verification is not None
    assert found.verification.verdicts == 400
    assert found.ok
    assert len({each["transaction_id"] for each in gateway.received}) == 400
    fields = {"transaction_id", "source", "target", "amount", "currency", "occurred_at"}
    assert {frozenset(each) for each in gateway.received} <= {
        frozenset(fields),
        frozenset(fields - {"currency"}),
    }


async def test_a_seed_gives_the_same_payments_in_every_run() -> None:
    """At whatever hour; only ids and times differ, so that no run repeats another's."""
    found = []
    for _ in range(2):
        async with standins.serving(standins.Standin()) as gateway:
            await run(gateway.url, loadgen_seed=7, loadgen_duration=0.25)
        found.append(gateway.received)
    what = [
        sorted((each["source"], each["target"], each["amount"]) for each in sent) for sent in found
    ]
    assert what[0] == what[1]
    first, second = ({each["transaction_id"] for each in sent} for sent in found)
    assert not first & second


@pytest.mark.parametrize(
    ("fault", "counted"),
    [("lose", "lost"), ("double", "duplicate"), ("misclassify", "misclassified")],
)
async def test_a_verdict_that_is_lost_doubled_or_wrong_is_found(fault: str, counted: str) -> None:
    """Each fiftieth of 400: eight of that fault, none of another, and the run has failed."""
    async with standins.serving(standins.Standin(**{fault: 50})) as gateway:
        found = await run(gateway.url)
    assert found.verification is not None
    faults = {
        name: getattr(found.verification, name) for name in ("lost", "duplicate", "misclassified")
    }
    assert faults == {"lost": 0, "duplicate": 0, "misclassified": 0} | {counted: 8}
    assert not found.ok


async def test_nothing_is_sent_before_the_stream_has_its_place() -> None:
    """A gateway that has just started says yes to a stream before it knows where that begins."""
    async with standins.serving(standins.Standin(stream_after=0.5)) as gateway:
        found = await run(gateway.url)
    assert found.verification is not None
    assert (found.verification.verdicts, found.verification.lost) == (400, 0)


async def test_a_stream_that_breaks_is_resumed_where_it_was() -> None:
    """With Last-Event-ID: nothing lost, nothing twice."""
    async with standins.serving(standins.Standin(break_stream_after=100)) as gateway:
        found = await run(gateway.url, loadgen_settle=5)
    assert found.verification is not None
    assert gateway.resumed_from == ["100"]
    assert found.verification.reconnects == 1
    assert found.verification.verdicts == 400
    assert found.ok


async def test_a_stream_that_may_not_be_resumed_yet_is_resumed_later() -> None:
    """A limit that is passed for a moment, often by the run's own load, ends nothing.

    It is told of once, however often it is met.
    """
    gateway = standins.Standin(break_stream_after=100, limit_to_resume=2)
    with capture_logs() as logged:
        async with standins.serving(gateway):
            found = await run(gateway.url, loadgen_settle=5)
    assert [each["event"] for each in logged].count("the event stream is not ready") == 1
    assert found.verification is not None
    assert found.verification.reconnects == 3
    assert found.verification.verdicts == 400
    assert found.ok


async def test_a_stream_that_can_t_be_resumed_fails_the_run() -> None:
    """It ends early, what ran is reported, and what was accepted without a verdict is lost."""
    gateway = standins.Standin(break_stream_after=50, refuse_to_resume=True)
    async with standins.serving(gateway):
        found = await run(gateway.url, loadgen_duration=20)
    assert found.verification is not None
    assert found.verification.gaps == 1
    assert found.verification.lost == found.accepted - 50 > 0
    assert found.sent < 8000
    assert not found.ok


async def test_refusals_are_counted_by_code() -> None:
    """Each tenth gets a 503: forty errors, nothing sent again."""
    async with standins.serving(standins.Standin(refuse=10)) as gateway:
        found = await run(gateway.url)
    assert (found.errors, found.retried, found.accepted) == ({"503": 40}, {}, 360)
    assert found.requests == 400


async def test_a_run_that_had_nothing_accepted_has_verified_nothing() -> None:
    """Each is refused: that none is lost is no success, and the summary says so."""
    async with standins.serving(standins.Standin(refuse=1)) as gateway:
        found = await run(gateway.url)
    assert found.verification is not None
    assert (found.accepted, found.verification.lost, found.ok) == (0, 0, False)
    assert "NOT VERIFIED" in report.text(found)


@pytest.mark.parametrize("batch", [1, 10])
async def test_with_retry_a_refusal_is_sent_again_with_the_same_id(batch: int) -> None:
    """And counted as a retry: in the end all are accepted, each once; in a batch only those."""
    async with standins.serving(standins.Standin(refuse=11)) as gateway:
        found = await run(gateway.url, loadgen_retry=True, loadgen_batch=batch)
    assert (found.errors, found.accepted) == ({}, 400)
    assert found.retried == {"503": gateway.refused}
    assert gateway.refused >= 36
    assert len({each["transaction_id"] for each in gateway.received}) == 400
    assert len(gateway.received) == 400


async def test_a_batch_is_counted_record_by_record() -> None:
    """Each seventh record is refused within its batch of ten: a 207 that says which."""
    async with standins.serving(standins.Standin(refuse=7)) as gateway:
        found = await run(gateway.url, loadgen_batch=10)
    assert found.requests == 40
    assert (found.accepted, found.errors) == (343, {"503": 57})
    assert found.ok


async def test_a_gateway_that_is_not_up_yet_is_waited_for() -> None:
    """The clock starts when it answers: nothing is late."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    running = asyncio.create_task(run(f"http://127.0.0.1:{port}"))
    await asyncio.sleep(0.3)
    async with standins.serving(standins.Standin(), port):
        found = await running
    assert (found.accepted, found.failed) == (400, 0)


async def test_a_gateway_that_is_up_need_not_be_waited_for() -> None:
    """With no time to wait for it, its stream still gets the time that an answer takes."""
    async with standins.serving(standins.Standin(stream_after=0.2)) as gateway:
        found = await run(gateway.url, loadgen_wait=0)
    assert found.ok


async def test_a_gateway_that_never_comes_up_is_given_up() -> None:
    """After the time set for it, with a line that says what was tried."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    with pytest.raises(TargetDownError, match=f"{port} is not ready"):
        await run(f"http://127.0.0.1:{port}", loadgen_wait=0.3)


async def test_a_server_that_goes_away_is_an_error_for_each_send() -> None:
    """Counted by its kind; the run goes on to its end."""
    async with standins.serving(standins.Standin()) as gateway:
        running = asyncio.create_task(run(gateway.url, loadgen_verify=False))
        await until(lambda: gateway.received, 10)
    found = await running
    assert found.sent == found.accepted + found.failed == 400
    assert found.failed > 0
    assert all("Error" in kind for kind in found.errors)


async def test_sends_that_find_no_free_connection_are_late_and_then_dropped() -> None:
    """One connection, answers after 100 ms, 400 due a second: what is due is sent or dropped."""
    async with standins.serving(standins.Standin(answer_after=0.1)) as gateway:
        found = await run(gateway.url, loadgen_connections=1, loadgen_drop_after=0.2)
    assert found.due == 400
    assert found.sent + found.dropped == 400
    assert found.dropped > 300
    assert 0 < found.late <= found.sent


async def test_a_server_that_does_not_answer_in_time_is_an_error_for_each_send() -> None:
    """And each frees its connection: those after it get their turn."""
    async with standins.serving(standins.Standin(answer_after=60)) as gateway:
        found = await run(
            gateway.url, loadgen_timeout=0.2, loadgen_connections=100, loadgen_verify=False
        )
    assert (found.sent, found.errors) == (400, {"TimeoutError": 400})
    assert found.cut_off == 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"SSH-2.0-x\r\n", "HttpProcessingError"),
        (b"HTTP/1.1 207 Multi\r\ncontent-length: 2\r\n\r\n{}", "207"),
        (b'HTTP/1.1 207 Multi\r\ncontent-length: 14\r\n\r\n{"results":[]}', "207"),
    ],
)
async def test_what_is_no_answer_is_an_error_for_each_send(answer: bytes, kind: str) -> None:
    """No HTTP at all, or results of other records than were sent: counted, and the run goes on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    target = HttpTarget(f"http://{host}:{port}", connections=1, timeout=20, batched=True)
    try:
        assert list((await target.send([Record(b"a", b"{}")] * 2)).codes) == [kind] * 2
    finally:
        await target.close()
        server.close()
        await server.wait_closed()


UNREADABLE = (
    b"",
    b"nan",
    b"inf",
    b"-1",
    b"1e9",
    b"\xb2",
    b"Thu, 01 Jan 2026 00:00:02 +" + b"9" * 30,
)
DATE = b"date: Thu, 01 Jan 2026 00:00:00 GMT\r\nretry-after: Thu, 01 Jan 2026 "


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"retry-after: 0", 0.0),
        (b"retry-after: 3", 3.0),
        (b"retry-after: " + b"9" * 400, 5.0),
        (DATE + b"00:00:02 GMT", 2.0),
        (DATE + b"01:00:00 GMT", 5.0),
        (b"retry-after: Thu, 01 Jan 2026 00:00:02 GMT\r\ndate: Fri, 02 Jan 2026 00:00:00 GMT", 0.0),
        (b"retry-after: Thu, 01 Jan 2026 00:00:02 GMT", 1.0),
        *((b"retry-after: " + text, 1.0) for text in UNREADABLE),
        (b"x: y", 1.0),
    ],
)
async def test_a_refusal_says_when_to_try_again(header: bytes, seconds: float) -> None:
    """In seconds or by the server's clock, five at most; what is neither is a second."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n" + header + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        target = HttpTarget(f"http://127.0.0.1:{port}", connections=1, timeout=20, batched=False)
        answer = await target.send([Record(b"a", b"{}")])
        await target.close()
    assert answer == (("503",), seconds)


async def test_an_answer_in_pieces_gives_its_connection_back() -> None:
    """Once it is whole: the next request goes out on the same connection."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(b"{}")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        target = HttpTarget(f"http://127.0.0.1:{port}", connections=1, timeout=5, batched=False)
        answers = [await target.send([Record(b"a", b"{}")]) for _ in range(3)]
        await target.close()
    assert [answer.codes for answer in answers] == [(ACCEPTED,)] * 3
    assert connections == 1


@pytest.fixture
def frozen_at_will() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A stand-in in a process of its own, so that it can be stopped as a whole."""
    process = subprocess.Popen([sys.executable, str(STANDIN)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def closed_loop(url: str, latency: Latency, over: asyncio.Event) -> None:
    """Measure as a closed loop does: the next send waits for the answer, time runs from the send.

    It is no less busy than the open-loop run: it sends again as soon as it can.
    """
    body = b'{"transaction_id":"closed","source":"a","target":"b","amount":"1"}'
    async with httpx.AsyncClient(timeout=30, verify=TRUST) as client:
        while not over.is_set():
            began = time.monotonic()
            await client.post(f"{url}/transactions", content=body)
            latency.record(time.monotonic() - began)


async def test_a_paused_server_shows_in_the_tail(
    frozen_at_will: tuple[str, subprocess.Popen[str]],
) -> None:
    """Two of five seconds stopped: two fifths of the sends waited, which a closed loop hides.

    In the open loop every send that fell due in the pause is charged for it: a quarter took over
    half a second. The closed loop has one slow answer among hundreds; its p95 knows of nothing.
    """
    url, server = frozen_at_will
    closed, over = Latency(), asyncio.Event()
    measuring = asyncio.create_task(closed_loop(url, closed, over))
    running = asyncio.create_task(
        run(url, transactions_per_second=100, loadgen_duration=5, loadgen_verify=False)
    )
    await asyncio.sleep(1.5)
    server.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2)
    server.send_signal(signal.SIGCONT)
    found = await running
    over.set()
    await measuring
    assert found.sent == found.accepted == 500
    assert found.latency_ms["p75"] is not None
    assert found.latency_ms["max"] is not None
    (p95_by_closed_loop,) = closed.percentiles((95.0,))
    assert found.latency_ms["p75"] > 500
    assert p95_by_closed_loop < found.latency_ms["p75"] / 2
    assert closed.longest > 1500
    assert found.latency_ms["max"] > 1500
