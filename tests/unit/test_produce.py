"""The request that appends record batches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.produce import Produce, Produce12, version_12


@given(
    st.sampled_from([None, "group.topic.1"]),
    st.dictionaries(
        st.text(max_size=5),
        st.lists(st.tuples(st.integers(0, 99), st.binary(max_size=300)), max_size=4),
        max_size=3,
    ),
)
def test_the_short_way_to_encode_gives_what_the_schema_gives(
    transactional_id: str | None, topics: dict[str, list[tuple[int, bytes]]]
) -> None:
    """Byte for byte, for any topics and partitions."""
    request = version_12(transactional_id, 30_000, topics)
    fields = [request.get_item(name) for name in Produce12.SCHEMA.names]
    assert request.encode() == Produce12.SCHEMA.encode(fields)


@pytest.mark.parametrize(("most", "used"), [(7, 7), (11, 7), (12, 12), (13, 12)])
def test_an_older_broker_gets_an_older_version(most: int, used: int) -> None:
    """The best of those that both know."""
    request = Produce(5_000, {"topic": [(0, bytearray(b"records"))]}).prepare({0: (0, most)})
    assert used == request.API_VERSION
