"""One batch: what comes of its records, whatever lies among them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from detector import rulesfile
from detector.batch import judge
from detector.engine import Engine
from wire.messages import LATEST_MS, Transaction, encode

DEFAULT = rulesfile.load(None)
PLACE = TopicPartition("transactions", 0)
DECIDED_AT = datetime(2026, 1, 1, tzinfo=UTC)


class Record(NamedTuple):
    """A record as it is read."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = b"key"
    headers: Any = ()


values = st.one_of(
    st.builds(
        lambda name, amount: encode(Transaction(name, "a", "b", Decimal(amount))),
        st.sampled_from("123456"),
        st.sampled_from(["1", "900", "900.01"]),
    ),
    st.sampled_from([None, b"", b"{", b'{"transaction_id":"x"}', b"\xff"]),
)
logs = st.lists(st.tuples(values, st.sampled_from([1, 2, LATEST_MS + 1])), max_size=12)


@given(log=logs)
def test_what_comes_of_a_record_does_not_hang_on_its_batch(log):
    """Poison, duplicates and all else come out alike in one batch and each in its own."""
    records = [Record(offset, at, value) for offset, (value, at) in enumerate(log)]
    together = judge(Engine(DEFAULT), records, DECIDED_AT, PLACE)
    engine, one_by_one = Engine(DEFAULT), None
    for record in records:
        one_by_one = judge(engine, [record], DECIDED_AT, PLACE, outcome=one_by_one)
    assert together == (one_by_one or together)
    total = len(together.legit) + len(together.fraud) + len(together.dead) + together.duplicates
    assert total == len(log)
