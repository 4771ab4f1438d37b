"""Topics to measure on: filled, or written to at a steady rate, and watched."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as Position

from wire.settings import KafkaSettings, TopicSettings

PARTITIONS = 4
ACCOUNTS = 5_000
FRAUD_EVERY = 20


def settings(address: str) -> TopicSettings:
    """Give settings with topics of their own."""
    name = "bench-" + uuid.uuid4().hex[:8]
    return TopicSettings(
        kafka_broker_url=address,
        transactions_topic=f"{name}.transactions",
        legit_topic=f"{name}.legit",
        fraud_topic=f"{name}.fraud",
        dead_letter_topic=f"{name}.dead-letter",
        partitions=PARTITIONS,
        log_level="warning",
    )


def transaction(number: int) -> tuple[bytes, bytes]:
    """Give key and value of a transaction as the gateway writes it."""
    source = f"account-{number * 7919 % ACCOUNTS:05}"
    amount = "900.01" if number % FRAUD_EVERY == 0 else f"{number % 899 + 1}.50"
    value = (
        f'{{"transaction_id":"{uuid.UUID(int=number)}","source":"{source}",'
        f'"target":"account-{number % 977:05}","amount":"{amount}","currency":"EUR",'
        f'"occurred_at":"2026-01-01T12:00:00Z"}}'
    )
    return source.encode(), value.encode()


def fill(to: KafkaSettings, count: int, *, spread_ms: int = 0, first: int = 0) -> None:
    """Write transactions as fast as possible; their timestamps end now, spread over that time."""
    producer = Producer(
        {
            "bootstrap.servers": to.kafka_broker_url,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 200_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    now = time.time_ns() // 1_000_000
    for number in range(count):
        key, value = transaction(first + number)
        at = now - spread_ms + spread_ms * number // count
        partition = hash(key) % PARTITIONS
        producer.produce(to.transactions_topic, value, key, partition=partition, timestamp=at)
        if number % 1_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


class Watch:
    """Reads both verdict topics, read_committed, and notes when each verdict came."""

    def __init__(self, of: TopicSettings) -> None:
        self.count = 0
        self.latencies_ms: list[float] = []
        self.sent: dict[bytes, int] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": of.kafka_broker_url,
                "group.id": "bench",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 1,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.assign(
            [
                Position(topic, partition, 0)
                for topic in (of.legit_topic, of.fraud_topic)
                for partition in range(PARTITIONS)
            ]
        )
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            message = self._consumer.poll(0.1)
            if message is None:
                continue
            assert message.error() is None
            now = time.perf_counter_ns()
            self.count += 1
            began = self.sent.pop(message.value()[19:55], None)
            if began is not None:
                self.latencies_ms.append((now - began) / 1e6)

    def wait(self, count: int, timeout: float) -> None:
        """Wait until so many verdicts have come."""
        deadline = time.monotonic() + timeout
        while self.count < count:
            assert time.monotonic() < deadline, f"{self.count} of {count} verdicts"
            time.sleep(0.02)

    def close(self) -> None:
        """End reading."""
        self._over.set()
        self._thread.join()
        self._consumer.close()


class Offer:
    """Sends transactions at a steady rate, open loop, one record at a time.

    One producer all along: what a new one sends first waits for its id, half a second at times.
    """

    def __init__(self, to: TopicSettings, watch: Watch, first: int = 0) -> None:
        self.sent = 0
        self._topic = to.transactions_topic
        self._watch = watch
        self._first = first
        self._producer = Producer(
            {"bootstrap.servers": to.kafka_broker_url, "enable.idempotence": True, "linger.ms": 0}
        )
        # What is sent to a partition that its metadata does not have yet fails without being tried.
        while len(self._producer.list_topics(self._topic, 10).topics[self._topic].partitions) < (
            PARTITIONS
        ):
            time.sleep(0.01)

    def send(self, rate: int, seconds: float) -> None:
        """Send for so long; then all of it is acknowledged."""
        first = self._first + self.sent
        count = int(rate * seconds)
        began = time.perf_counter()
        for number in range(first, first + count):
            pause = began + (number - first) / rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            key, value = transaction(number)
            self._watch.sent[value[19:55]] = time.perf_counter_ns()
            self._producer.produce(
                self._topic,
                value,
                key,
                partition=hash(key) % PARTITIONS,
                on_delivery=_delivered,
            )
            self._producer.poll(0)
        assert self._producer.flush(10) == 0
        self.sent += count


def _delivered(error: KafkaError | None, _message: Message) -> None:
    assert error is None, error


@contextmanager
def progress(of: TopicSettings, group: str) -> Iterator[Callable[[], int]]:
    """Give what tells how many records a group has settled.

    What is committed now: a reader of committed records is told to ask again, half a second later,
    for as long as a transaction is open, and here one always is.
    """
    asker = Consumer(
        {
            "bootstrap.servers": of.kafka_broker_url,
            "group.id": group,
            "isolation.level": "read_uncommitted",
        }
    )
    positions = [Position(of.transactions_topic, partition) for partition in range(PARTITIONS)]

    def settled() -> int:
        try:
            return sum(max(0, each.offset) for each in asker.committed(positions, 10))
        except KafkaException:  # a fresh broker's coordinator is still loading
            return 0

    try:
        yield settled
    finally:
        asker.close()


def settle_all(of: TopicSettings, group: str) -> None:
    """Commit the end of the log for a group, as if it had settled all that is there."""
    client = Consumer({"bootstrap.servers": of.kafka_broker_url, "group.id": group})
    places = [Position(of.transactions_topic, partition) for partition in range(PARTITIONS)]
    for place in places:
        place.offset = client.get_watermark_offsets(place, timeout=10)[1]
    client.commit(offsets=places, asynchronous=False)
    client.close()
