"""What lies in the topics, read with a client of another make than the product's."""

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition

TOPICS = {
    "transactions": "queueing.transactions",
    "legit": "streaming.transactions.legit",
    "fraud": "streaming.transactions.fraud",
}
DEADLINE_S = 120.0


@dataclass
class Log:
    """All that lies in the topics, read with a client of another make than the product's."""

    transactions: Counter[str]
    verdicts: Counter[str]
    _places: dict[str, list[str]]
    """Where each transaction and its verdicts lie."""

    @classmethod
    def read(cls, bootstrap: str) -> "Log":
        """Read everything committed, from the beginning to where the ends are now."""
        places: dict[str, list[str]] = {}
        ids = {name: _ids(bootstrap, topic, places) for name, topic in TOPICS.items()}
        return cls(ids["transactions"], ids["legit"] + ids["fraud"], places)

    @property
    def lost(self) -> set[str]:
        """Transactions without a verdict."""
        return set(self.transactions) - set(self.verdicts)

    @property
    def doubled(self) -> set[str]:
        """Transactions with more than one verdict."""
        return {name for name, times in self.verdicts.items() if times > 1}

    def places(self, ids: set[str]) -> str:
        """Tell where transactions and their verdicts lie, a line each."""
        return "\n".join(f"{name}: {'; '.join(self._places[name])}" for name in sorted(ids))


def _ids(bootstrap: str, topic: str, places: dict[str, list[str]]) -> Counter[str]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "checks",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
    )
    found: Counter[str] = Counter()
    try:
        count = len(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1]
            for p in range(count)
        }
        consumer.assign([TopicPartition(topic, p, 0) for p in range(count)])
        deadline = time.monotonic() + DEADLINE_S
        while any(at.offset < ends[at.partition] for at in _positions(consumer, topic, ends)):
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
            for message in consumer.consume(5_000, timeout=0.5):
                assert message.error() is None, message.error()
                name = json.loads(message.value())["transaction_id"]
                found[name] += 1
                at = f"{topic} {message.partition()}:{message.offset()} at {message.timestamp()[1]}"
                places.setdefault(name, []).append(at)
    finally:
        consumer.close()
    return found


def _positions(consumer: Consumer, topic: str, ends: dict[int, int]) -> list[Any]:
    # Before the first record a position is unknown, a negative number: that is right for an empty
    # partition only.
    places = consumer.position([TopicPartition(topic, p) for p in ends])
    for place in places:
        if place.offset < 0 and not ends[place.partition]:
            place.offset = 0
    return list(places)
