"""The most that the load generator can drive, one by one and in batches, beside wrk's rate.

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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

ROUNDS = 3
SECONDS = 4
CONNECTIONS = 64
BODY = (
    '{"transaction_id":"lg-0123abcd-1","source":"acc-000001","target":"acc-000002",'
    '"amount":"12.34","currency":"EUR","occurred_at":"2026-01-02T03:04:05.678901Z"}'
)
SERVER = """
import uvicorn
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"21")]
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b'{"status":"accepted"}'})
if __name__ == "__main__":
    import socket
    sock = socket.create_server(("127.0.0.1", 0))
    print(sock.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
    uvicorn.Server(config).run([sock])
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
        steady = [drive(url, 1000) for _ in range(ROUNDS)]
        cpu = statistics.median(each["cpu"] for each in steady) / SECONDS
        rss = max(each["rss"] for each in steady)
        p99 = statistics.median(each["latency_ms"]["p99"] for each in steady)
        late = sum(each["late"] for each in steady)
        print(f"1000 single POSTs/s: {cpu:.0%} of a core, start and world included (aim 33 %)")
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
