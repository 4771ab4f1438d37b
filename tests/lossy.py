"""A network between Kafka and its clients that loses, and delays, some of what it carries.

A broker that is killed ends all connections at one moment. A network does worse: a request is done
and its answer is lost, one of a client that has long gone arrives all the same, or a connection
stays open and nothing comes through it any more.
"""

import asyncio
import contextlib
import random
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args

Fault = Literal["request lost", "answer lost", "request late", "silence"]
FAULTS: Final = get_args(Fault)
LATE_S: Final = 3.0
"""How much later a late request comes, at most."""
SILENCE_S: Final = 12.0
"""How long a connection that carries nothing more stays open, at most."""
REQUESTS: Final[Mapping[int, str]] = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    9: "OffsetFetch",
    10: "FindCoordinator",
    11: "JoinGroup",
    12: "Heartbeat",
    14: "SyncGroup",
    18: "ApiVersions",
    22: "InitProducerId",
    26: "EndTxn",
    28: "TxnOffsetCommit",
}


class Network:
    """Carries requests to a broker and its answers back; runs in a thread of its own."""

    def __init__(self, port: int, share: Mapping[str, float], chance: random.Random) -> None:
        """Listen, on `self.port`.

        Args:
            port: the broker's, on loopback.
            share: of each kind of request, how many of them meet a fault, from 0 to 1.
            chance: decides which, and what befalls them.
        """
        self.faulty = False
        self.faults: Counter[tuple[str, Fault]] = Counter()
        """How often what befell which kind of request."""
        self._upstream = port
        self._share = share
        self._chance = chance
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        listening = asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """End all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def fault(self, request: bytes) -> Fault | None:
        """Say what befalls a request; mostly nothing."""
        name = REQUESTS.get(int.from_bytes(request[4:6]), "")
        if not self.faulty or self._chance.random() >= self._share.get(name, 0):
            return None
        fault: Fault = self._chance.choice(FAULTS)
        self.faults[name, fault] += 1
        return fault

    def some(self, most_s: float) -> float:
        """Give a time, in seconds."""
        return self._chance.uniform(0, most_s)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
            except OSError:
                return
            connection = _Connection(self, reader, writer, *upstream)
            with contextlib.closing(upstream[1]):
                await connection.carry()


class _Connection:
    """One client's connection."""

    def __init__(
        self,
        network: Network,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> None:
        self._network = network
        self._reader = reader
        self._writer = writer
        self._upstream_reader = upstream_reader
        self._upstream_writer = upstream_writer
        self._unanswered: int | None = None
        """The correlation id of a request whose answer is lost."""
        self._silent = False

    async def carry(self) -> None:
        """Carry what comes, either way, until one end has gone or a fault ends it."""
        both = [asyncio.create_task(each) for each in (self._requests(), self._answers())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _requests(self) -> None:
        while (request := await _message(self._reader)) is not None:
            fault = self._network.fault(request)
            if fault == "request lost":
                return
            if fault == "request late":
                self._writer.close()  # whoever asked knows nothing of it
                await asyncio.sleep(self._network.some(LATE_S))
            elif fault == "answer lost":
                self._unanswered = _correlation(request, 8)
            elif fault == "silence":
                self._silent = True
            self._upstream_writer.write(request)
            await self._upstream_writer.drain()
            if fault == "request late":
                await asyncio.sleep(LATE_S)
                return
            if fault == "silence":
                await asyncio.sleep(self._network.some(SILENCE_S))
                return

    async def _answers(self) -> None:
        while (answer := await _message(self._upstream_reader)) is not None:
            if _correlation(answer, 4) == self._unanswered:
                return
            if not self._silent and not self._writer.is_closing():
                self._writer.write(answer)
                await self._writer.drain()


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """Read a request or an answer whole, its length first; None at the end."""
    try:
        length = await reader.readexactly(4)
        return length + await reader.readexactly(int.from_bytes(length))
    except (asyncio.IncompleteReadError, OSError):
        return None


def _correlation(message: bytes, at: int) -> int:
    (found,) = struct.unpack_from(">i", message, at)
    return int(found)


@contextlib.contextmanager
def network(port: int, share: Mapping[str, float], chance: random.Random) -> Iterator[Network]:
    """Give a network that is there for a while."""
    made = Network(port, share, chance)
    try:
        yield made
    finally:
        made.close()
