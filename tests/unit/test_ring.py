"""The ring of recent events: bounded, and honest about how far back it reaches."""

from hypothesis import given, settings
from hypothesis import strategies as st

from api.streams.event import Event
from api.streams.position import FRAUD, LEGIT, Cursor, Position
from api.streams.ring import EVENT_OVERHEAD_BYTES, Ring


def event(topic: int, partition: int, offset: int, size: int = 10) -> Event:
    """Make an event."""
    return Event(topic, partition, offset, 0, b"x" * size)


def test_it_reaches_back_to_where_reading_began() -> None:
    """A cursor at the first offset that was read is served; one before it is not."""
    ring = Ring(10, 10_000)
    ring.begin(FRAUD, 0, 100)
    assert ring.reaches(Cursor(Position({FRAUD: (100,)})))
    assert not ring.reaches(Cursor(Position({FRAUD: (99,)})))


def test_topics_that_a_stream_does_not_carry_do_not_matter() -> None:
    """A fraud stream is served whatever was let go of legit."""
    ring = Ring(10, 10_000)
    ring.begin(FRAUD, 0, 0)
    ring.begin(LEGIT, 0, 100)
    assert ring.reaches(Cursor(Position({FRAUD: (0,)})))


def test_an_event_let_go_moves_the_reach_past_it() -> None:
    """What the ring no longer holds must come from Kafka."""
    ring = Ring(2, 10_000)
    ring.begin(FRAUD, 0, 0)
    ring.extend([event(FRAUD, 0, 0), event(FRAUD, 0, 5), event(FRAUD, 0, 6)])
    assert not ring.reaches(Cursor(Position({FRAUD: (0,)})))
    assert ring.reaches(Cursor(Position({FRAUD: (1,)})))
    assert [e.offset for e in ring.page(ring.first, 10)] == [5, 6]


def test_bytes_are_bounded_too() -> None:
    """Big verdicts push out more than small ones."""
    ring = Ring(100, 3 * (1_000 + EVENT_OVERHEAD_BYTES))
    ring.begin(FRAUD, 0, 0)
    ring.extend([event(FRAUD, 0, n, 1_000) for n in range(10)])
    assert [e.offset for e in ring.page(ring.first, 10)] == [7, 8, 9]


@settings(deadline=None)
@given(
    st.integers(1, 8),
    st.integers(200, 2_000),
    st.lists(st.tuples(st.sampled_from((FRAUD, LEGIT)), st.integers(0, 1), st.integers(0, 400))),
)
def test_what_it_reaches_it_holds(
    capacity: int, max_bytes: int, coming: list[tuple[int, int, int]]
) -> None:
    """Every event at or after a cursor that it reaches is in it, in order."""
    ring = Ring(capacity, max_bytes)
    nexts = {(topic, partition): 0 for topic in (FRAUD, LEGIT) for partition in (0, 1)}
    for topic, partition in nexts:
        ring.begin(topic, partition, 0)
    events = []
    for topic, partition, size in coming:
        events.append(event(topic, partition, nexts[topic, partition], size))
        nexts[topic, partition] += 1
    ring.extend(events)
    held = ring.page(ring.first, capacity)
    assert len(held) <= capacity
    assert held == events[len(events) - len(held) :]
    for back in range(len(events) + 1):
        at = dict.fromkeys(nexts, 0)
        for e in events[:back]:
            at[e.topic, e.partition] = e.offset + 1
        cursor = Cursor(Position({t: (at[t, 0], at[t, 1]) for t in (FRAUD, LEGIT)}))
        if ring.reaches(cursor):
            assert set(events[back:]) <= set(held)
            assert ring.page(ring.since(cursor), capacity) == events[back:]
