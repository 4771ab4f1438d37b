"""A verdict put together from parts is what encoding a Verdict gives."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from detector.engine import Decided
from detector.verdicts import VerdictWriter
from wire.messages import EARLIEST_MS, LATEST_MS, Reason, Transaction, Verdict, encode, instant

texts = st.text(min_size=1, max_size=20)
moments = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis wants naive bounds
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=30))]),
)
transactions = st.builds(
    Transaction,
    texts,
    texts,
    texts,
    st.decimals(min_value=Decimal("0.0001"), max_value=10**13, places=4),
    st.sampled_from(["EUR", "JPY"]),
    st.none() | moments,
    st.none() | st.dictionaries(texts, texts, max_size=3),
)
decisions = st.builds(
    Decided,
    st.sampled_from(["legit", "fraud"]),
    st.integers(0, 100),
    st.lists(st.builds(Reason, texts, texts, texts, st.booleans()), max_size=3).map(tuple),
)


@given(
    st.lists(st.tuples(transactions, decisions, st.integers(EARLIEST_MS, LATEST_MS)), max_size=5),
    texts,
    moments,
)
def test_it_writes_what_encoding_a_verdict_gives(decided, version, decided_at) -> None:
    """Byte for byte, whatever is in the transaction, and whatever was written before."""
    writer = VerdictWriter(version, decided_at)
    for transaction, found, received_ms in [*decided, *decided]:
        verdict = Verdict(
            **{name: getattr(transaction, name) for name in transaction.__struct_fields__},
            **structs.asdict(found),
            rules_version=version,
            received_at=instant(received_ms),
            decided_at=decided_at,
        )
        assert [encode(verdict), None] == list(
            writer.write([transaction] * 2, [found, None], [received_ms] * 2)
        )
