"""Ids that are made many at once are UUIDs of version 7, as those made alone."""

import time
from uuid import RFC_4122, UUID

import pytest

from wire.ids import uuid7s


@pytest.mark.parametrize("count", [0, 1, 256, 257, 2_000])
def test_they_are_of_version_7_of_now_and_all_differ(count: int) -> None:
    """As RFC 9562 has them, written as Python writes them."""
    before = time.time_ns() // 1_000_000
    made = uuid7s(count)
    after = time.time_ns() // 1_000_000

    ids = [UUID(each) for each in made]
    assert list(map(str, ids)) == made
    assert len(set(ids)) == count
    assert {(each.version, each.variant) for each in ids} <= {(7, RFC_4122)}
    assert all(before <= each.int >> 80 <= after for each in ids)


def test_those_of_one_go_ascend_and_are_not_to_be_guessed() -> None:
    """A body's records have ids in their order; the last 40 bits of each are random."""
    made = uuid7s(256)

    assert made == sorted(made)
    assert len({each[-10:] for each in made}) == len(made)
    assert len({each[:23] for each in uuid7s(1) + uuid7s(1) + made}) == 3
