"""The windows answer as if they had looked at every record of the log."""

import sys
from decimal import Decimal
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.tally import UNITS_PER_ONE, TallySpec
from detector.windows import (
    EXPIRE_EVERY_MS,
    LOOKS_FOR_OLDEST,
    SPARSE,
    CounterpartiesSpec,
    Recent,
    WindowLimits,
    Windows,
)
from wire.messages import Transaction

WINDOW_MS = 50_000
UNBOUNDED = 1_000
timestamps = st.integers(min_value=1_000, max_value=1_200).map(lambda s: s * 1_000)
bounds = st.sampled_from([1, 2, 5, UNBOUNDED])
amounts = st.decimals(min_value="0.0001", max_value=1000, places=4)
transactions = st.builds(
    Transaction,
    transaction_id=st.just("id"),
    source=st.sampled_from("abc"),
    target=st.sampled_from("xyz"),
    amount=amounts,
    currency=st.sampled_from(["EUR", "JPY"]),
)
tally_specs = st.builds(
    TallySpec,
    window_ms=st.just(WINDOW_MS),
    sums=st.booleans(),
    currency=st.sampled_from([None, "EUR"]),
    least=st.sampled_from([None, Decimal(100)]),
    most=st.sampled_from([None, Decimal(700)]),
)
logs = st.lists(st.tuples(transactions, timestamps), max_size=40)


def timed(log: list[tuple[Transaction, int]]) -> list[tuple[Transaction, int]]:
    """Put stream time in the place of the records' timestamps."""
    return list(
        zip((each for each, _ in log), stream_times([stamp for _, stamp in log]), strict=True)
    )


def is_tallied(transaction: Transaction, spec: TallySpec) -> bool:
    return (
        spec.currency in (None, transaction.currency)
        and transaction.amount >= (spec.least or 0)
        and (spec.most is None or transaction.amount <= spec.most)
    )


def stream_times(stamps: list[int]) -> list[int]:
    return list(accumulate(stamps, max))


@given(log=st.lists(st.tuples(st.sampled_from("abcdefgh"), timestamps), max_size=40), bound=bounds)
def test_recent_remembers_the_latest_keys_of_the_window(log, bound):
    """A key was seen if it is among the newest different keys, up to the bound, in the window."""
    recent = Recent(WINDOW_MS, bound)
    keys = [key for key, _ in log]
    times = stream_times([stamp for _, stamp in log])

    answers = recent.saw(keys, times)

    expected = []
    for i, (key, time) in enumerate(zip(keys, times, strict=True)):
        newest_first = dict.fromkeys(
            keys[j] for j in reversed(range(i)) if time - times[j] < WINDOW_MS
        )
        expected.append(key in list(newest_first)[:bound])
    assert expected == answers


@given(log=logs, spec=tally_specs, bound=bounds)
def test_tally_equals_adding_up_the_log_again(log, spec, bound):
    """A tally is the sum over the newest entries, up to the bound, in the window."""
    tally = spec.open(bound)
    times = stream_times([stamp for _, stamp in log])
    tally.add([transaction for transaction, _ in log], times)

    expected = []
    taken: list[int] = []
    for i, (transaction, _) in enumerate(log):
        if not is_tallied(transaction, spec):
            expected.append(0)
            continue
        taken.append(i)
        expected.append(
            sum(
                int(log[j][0].amount * UNITS_PER_ONE) if spec.sums else 1
                for j in taken[-bound:]
                if times[i] - times[j] < WINDOW_MS
                and log[j][0].source == transaction.source
                and (not spec.sums or log[j][0].currency == transaction.currency)
            )
        )
    assert expected == tally.totals


@given(log=logs, spec=tally_specs, bound=bounds)
def test_no_window_holds_more_than_its_bound(log, spec, bound):
    """However much comes, a window holds at most so many entries, and counts what it let go."""
    windows = Windows(WindowLimits(bound))
    windows.keep([spec])
    for transaction, time in timed(log):
        windows.add([transaction], [time])
        assert windows.entries <= bound
    taken = sum(is_tallied(transaction, spec) for transaction, _ in log)
    assert windows.entries + windows.evicted <= taken


@given(log=logs)
def test_all_that_a_tally_holds_expires(log):
    """When a window's time has passed, nothing of it is left, accounts included."""
    tally = TallySpec(WINDOW_MS, sums=True).open(UNBOUNDED)
    for transaction, time in timed(log):
        tally.add([transaction], [time])
    tally.add([Transaction("id", "last", "x", Decimal(1))], [10_000_000])
    assert (len(tally), len(tally._accounts)) == (1, 1)


def test_entries_expire_by_what_is_not_tallied_too():
    """Time goes on for a tally whatever the transactions are that it goes on by."""
    tally = TallySpec(WINDOW_MS, currency="EUR").open(UNBOUNDED)
    for currency, time in (("EUR", 1), ("JPY", 1 + WINDOW_MS)):
        tally.add([Transaction("id", "a", "x", Decimal(1), currency)], [time])
    assert (len(tally), len(tally._accounts)) == (0, 0)


@given(log=logs)
def test_a_counterparty_is_new_until_paid(log):
    """A target is new if the source has not paid it within the window."""
    counterparties = CounterpartiesSpec(WINDOW_MS).open(UNBOUNDED)
    times = stream_times([stamp for _, stamp in log])
    counterparties.add([transaction for transaction, _ in log], times)
    for i, (transaction, _) in enumerate(log):
        paid = any(
            (log[j][0].source, log[j][0].target) == (transaction.source, transaction.target)
            and times[i] - times[j] < WINDOW_MS
            for j in range(i)
        )
        assert counterparties.known[i] == paid


def test_expired_keys_go():
    """What has expired is let go of, within a second or for lack of room: that evicts nothing."""
    recent = Recent(WINDOW_MS, 3)
    held = []
    for time in (100_000, 100_000, 149_000, 150_000, 150_000 + EXPIRE_EVERY_MS, 200_000):
        recent.saw([f"key {len(held)}"], [time])
        held.append(len(recent))
    assert (held, recent.evicted) == ([1, 2, 3, 3, 3, 2], 0)


def test_evictions_are_counted_when_a_bound_is_met():
    """A full window lets its oldest entry go, and says so."""
    recent = Recent(WINDOW_MS, 2)
    seen = recent.saw("abca", [1] * 4)
    assert (seen, recent.evicted, len(recent)) == ([False] * 4, 2, 2)


def test_what_came_again_goes_after_what_did_not():
    """A full window lets the key go that is away for longest, also when it was next before."""
    recent = Recent(WINDOW_MS, 2 * LOOKS_FOR_OLDEST)
    keys = [str(number) for number in range(2 * LOOKS_FOR_OLDEST)]
    recent.saw(keys, [1] * len(keys))
    for more in (["new 1"], ["1"], ["new 2", "new 3"]):
        recent.saw(more, [1] * len(more))
    there = [recent.saw([key], [1]) == [True] for key in ("1", *keys[4:])]
    assert (all(there), recent.evicted, len(recent)) == (True, 3, len(keys))


@pytest.mark.parametrize("late", [0, 3])
def test_a_burst_leaves_nothing_behind(late):
    """Once a burst's keys have expired they take no room, and nothing has to step over them."""
    recent = Recent(WINDOW_MS, UNBOUNDED)
    recent.saw([str(number) for number in range(UNBOUNDED - late)], [1] * (UNBOUNDED - late))
    recent.saw([f"late {number}" for number in range(late)], [WINDOW_MS] * late)
    full = sys.getsizeof(recent._last)
    recent.saw(["new"], [1 + WINDOW_MS + EXPIRE_EVERY_MS])
    assert (len(recent), recent.evicted) == (late + 1, 0)
    assert sys.getsizeof(recent._last) < full / SPARSE


@pytest.mark.parametrize("age", [WINDOW_MS - 1, WINDOW_MS])
def test_a_window_ends_after_exactly_its_length(age):
    """An entry counts while it is less than the window's length old."""
    recent = Recent(WINDOW_MS, UNBOUNDED)
    assert recent.saw(["key"] * 2, [1_000, 1_000 + age]) == [False, age < WINDOW_MS]


def test_windows_that_stay_keep_what_they_hold():
    """Asking for other windows leaves the common ones as they are and drops the rest."""
    kept, dropped, opened = TallySpec(10), TallySpec(20), CounterpartiesSpec(30)
    windows = Windows(WindowLimits(1))
    windows.keep([kept, dropped])
    for number in range(2):
        windows.add([Transaction(f"{number}", "a", "b", Decimal(1))], [1])
    windows.keep([kept, opened])
    assert ({kept, opened}, 1, 2) == (set(windows.specs), windows.entries, windows.evicted)
