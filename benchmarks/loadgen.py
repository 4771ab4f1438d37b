"""What the load generator costs, and the most it can drive, beside aiohttp alone and wrk.

All drive the same trivial server, which has a core to itself where there are two. The aim is
1000 single POSTs a second at a third of a core, and far more in batches.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

ROUNDS = 3
SECONDS = 4
STEADY_S = 6
"""For how long the processor time of a steady rate is taken, once it has run for a second."""
CONNECTIONS = 64
BODY = (
    '{"transaction_id":"lg-0123abcd-1","source":"acc-000001","target":"acc-000002",'
    '"amount":"12.34","currency":"EUR","occurred_at":"2026-01-02T03:04:05.678901Z"}'
)
SERVER = """
import asyncio
import uvicorn
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"21")]
STREAM = {"type": "http.response.start", "status": 200, "headers": []}
verdicts = []
async def app(scope, receive, send):
    if scope["path"] == "/stream/all":
        await receive()
        left = asyncio.create_task(receive())
        await send(STREAM)
        while not left.done():
            await asyncio.sleep(0.02)
            events = b"".join(b"id: 1\\ndata: %b\\n\\n" % each for each in verdicts)
            verdicts.clear()
            await send({"type": "http.response.body", "body": events, "more_body": True})
        return
    while (message := await receive()).get("more_body"):
        pass
    if scope["method"] == "POST":
        verdicts.append(message.get("body", b"")[:-1] + b',"decision":"legit"}')
        del verdicts[:-1000]
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b'{"status":"accepted"}'})
if __name__ == "__main__":
    import socket
    sock = socket.create_server(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
    uvicorn.Server(config).run([sock])
"""
PLAIN = """
import asyncio, sys, time
import aiohttp, uvloop
async def main(url, body, connections, seconds):
    async with aiohttp.ClientSession() as session:
        start = time.monotonic()
        dues = iter(range(1000 * seconds))
        async def send():
            for number in dues:
                if (wait := start + number / 1000 - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if number == 1000:
                    print("1 s", file=sys.stderr, flush=True)
                async with session.post(url, data=body) as response:
                    await response.read()
        await asyncio.gather(*(send() for _ in range(connections)))
url, body, connections, seconds = sys.argv[1:]
uvloop.run(main(url + "/transactions", body.encode(), int(connections), int(seconds)))
"""
POST = """
wrk.method = "POST"
wrk.body = '%s'
wrk.headers["content-type"] = "application/json"
done = function(summary)
  io.write(string.format("answered %%d in %%d us", summary.requests, summary.duration))
end
"""


@contextmanager
def server() -> Iterator[str]:
    """Run the trivial server; give its address."""
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def steady(argv: list[str]) -> float:
    """Run what sends 1000 a second and says so after one; give what share of a core it takes."""
    process = psutil.Popen(
        [sys.executable, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    process.stderr.readline()
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(STEADY_S)
    share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
    process.communicate()
    return share


def shares(url: str) -> dict[str, float]:
    """Give the shares of a core that 1000 single POSTs a second take, measured in turn."""
    seconds = str(STEADY_S + 2)
    load = ["-m", "loadgen", "--url", url, "--tps", "1000", "--duration", seconds, "--json"]
    kinds = {
        "loadgen": load,
        "loadgen --verify": [*load, "--verify", "--expect", "unknown", "--settle", "1"],
        "aiohttp alone": ["-c", PLAIN, url, BODY, str(CONNECTIONS), seconds],
    }
    found = [{kind: steady(argv) for kind, argv in kinds.items()} for _ in range(ROUNDS)]
    return {kind: statistics.median(each[kind] for each in found) for kind in kinds}


def drive(url: str, tps: float, *options: str) -> dict[str, Any]:
    """Run the load generator; give its summary, its CPU seconds and its resident memory."""
    argv = [sys.executable, "-m", "loadgen", "--url", url, "--tps", str(tps), "--json"]
    argv += ["--connections", str(CONNECTIONS), "--duration", str(SECONDS), *options]
    process = psutil.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    used: dict[str, Any] = {}
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            used = {
                "cpu": sum(sum(each.cpu_times()[:2]) for each in family),
                "rss": sum(each.memory_info().rss for each in family) / 1e6,
            }
            process.wait(0.1)
        except (psutil.TimeoutExpired, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    found: dict[str, Any] = json.load(process.stdout)
    return found | used


def most(url: str, guess: float, *options: str) -> float:
    """Give what is sent a second when a fifth more is due than can be sent."""
    rate = drive(url, guess, *options)["rate"]
    return statistics.median(drive(url, 1.2 * rate, *options)["rate"] for _ in range(ROUNDS))


def wrk(url: str) -> float:
    """Give wrk's rate of the same POST over as many connections."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(POST % BODY)
        script.flush()
        argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", script.name]
        said = subprocess.run(
            [*argv, f"{url}/transactions"], check=True, capture_output=True, text=True
        ).stdout
    found = re.search(r"answered (\d+)\S* in (\d+)\S* us", said)
    assert found is not None, said
    return int(found[1]) / int(found[2]) * 1e6


def main() -> int:
    """Print the figures; 1 if wrk is missing, as then there is nothing to compare with."""
    with server() as url:
        print("1000 single POSTs/s, share of a core (aim 33 %):")
        for kind, share in shares(url).items():
            print(f"  {kind:18} {share:.0%}")
        runs = [drive(url, 1000) for _ in range(ROUNDS)]
        start = statistics.median(each["cpu"] for each in runs)
        rss = max(each["rss"] for each in runs)
        p99 = statistics.median(each["latency_ms"]["p99"] for each in runs)
        late = sum(each["late"] for each in runs)
        print(f"  {SECONDS} s of it with start and world: {start:.1f} s of processor time")
        print(
            f"  p99 {p99:.1f} ms, late {late} of {ROUNDS * SECONDS * 1000}, {rss:.0f} MB (aim 150)"
        )
        reference = None
        if shutil.which("wrk"):
            reference = statistics.median(wrk(url) for _ in range(ROUNDS))
            print(f"wrk, closed loop, one thread: {reference:,.0f} requests/s")
        for name, guess, options in (
            ("single", 8_000, ()),
            ("single, two processes", 12_000, ("--processes", "2")),
            ("batches of 100", 100_000, ("--batch", "100")),
        ):
            rate = most(url, guess, *options)
            beside = f", {rate / reference:.2f} of wrk's" if reference else ""
            print(f"most that it drives, {name}: {rate:,.0f} transactions/s{beside}")
    if reference is None:
        print("wrk is missing (Debian: apt-get install wrk): nothing to compare with")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
