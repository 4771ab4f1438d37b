"""Many stream clients in one process, as cheap as they can be: an epoll loop that counts.

`python -m benchmarks._readers` reads one JSON line on standard input (host, port, path, clients,
sampled, stuck), opens the connections, prints a line when all have their first byte, counts until
standard input ends, and prints what it saw. Each event of the benchmark has a fixed number of
opening braces, so that counting one byte counts events, wherever a read was cut. Every
`sampled`th connection reads all times of sending; the first `stuck` connections never read.
"""

import json
import re
import select
import socket
import sys
import time

BRACES = 2
"""Opening braces in one event: the verdict and its one reason."""
READ_BYTES = 256 << 10
SENT_AT = re.compile(rb'"transaction_id":"(\d{16})-(\d{8})"')
KEEP_BYTES = 64
CONNECT_EVERY_S = 0.0004


def main() -> None:
    """Read the order, connect, count, report."""
    order = json.loads(sys.stdin.readline())
    request = (
        f"GET {order['path']} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    ).encode()
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    stuck = []
    for number in range(order["clients"]):
        connection = socket.create_connection((order["host"], order["port"]))
        connection.sendall(request)
        if number < order["stuck"]:
            stuck.append(connection)
            continue
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
        time.sleep(CONNECT_EVERY_S)
    sampled = set(list(sockets)[:: order["sampled"]])
    poll.register(sys.stdin, select.EPOLLIN)
    print(json.dumps(count(poll, sockets, sampled)), flush=True)


def count(
    poll: select.epoll, sockets: dict[int, socket.socket], sampled: set[int]
) -> dict[str, object]:
    """Read until standard input says so, and a moment more."""
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    braces = dict.fromkeys(sockets, 0)
    tails = dict.fromkeys(sampled, b"")
    heard = set()
    delays = []
    closed = 0
    total_bytes = reads = 0
    stdin = sys.stdin.fileno()
    announced = False
    while True:
        for descriptor, _ in poll.poll(1):
            if descriptor == stdin:
                return {
                    "events": sum(n // BRACES for n in braces.values()),
                    "least": min((n // BRACES for n in braces.values()), default=0),
                    "delays_us": sorted(delays),
                    "closed": closed,
                    "bytes": total_bytes,
                    "reads": reads,
                }
            got = sockets[descriptor].recv_into(view)
            if not got:
                poll.unregister(descriptor)
                closed += 1
                continue
            total_bytes += got
            reads += 1
            braces[descriptor] += buffer.count(b"{", 0, got)
            if descriptor in sampled:
                now = time.time_ns() // 1000
                text = tails[descriptor] + view[:got]
                end = 0
                for match in SENT_AT.finditer(text):
                    delays.append(now - int(match[1]))
                    end = match.end()
                tails[descriptor] = text[max(end, len(text) - KEEP_BYTES) :]
            if not announced:
                heard.add(descriptor)
                if len(heard) == len(sockets):
                    announced = True
                    print("connected", flush=True)


if __name__ == "__main__":
    main()
