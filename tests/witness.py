"""A client that sends while things are killed, and remembers what it was promised."""

import threading
import time
import uuid
from dataclasses import dataclass, field

import httpx


@dataclass
class Witness:
    """A client that sends all the time and notes what it was promised."""

    url: str
    accepted: set[str] = field(default_factory=set)
    seconds: list[tuple[float, float]] = field(default_factory=list)
    """When each accepted request began, and how long its answer took."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, threads: int = 4) -> None:
        """Send from now on, each thread one transaction after another."""
        for _ in range(threads):
            self._threads.append(threading.Thread(target=self._send, daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self._stop.is_set():
                self._send_one(client, f"witness-{uuid.uuid4()}")
                self._stop.wait(0.02)

    def _send_one(self, client: httpx.Client, name: str) -> None:
        """Send one until it is accepted, as the README tells clients to: with the same id."""
        amount = "901" if name[-1] in "01234567" else "900"
        body = {"transaction_id": name, "source": name[-2:], "target": "b", "amount": amount}
        began = time.time()
        while not self._stop.is_set():
            try:
                answer = client.post("/transactions", json=body)
            except httpx.TransportError:
                self._stop.wait(0.2)
                continue
            if answer.status_code == 202:
                self.accepted.add(name)
                self.seconds.append((began, time.time() - began))
                return
            assert answer.json()["retriable"], answer.text
            self._stop.wait(0.2)
