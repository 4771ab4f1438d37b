"""What a backtest adds up, case by case: within bounds, and the same as the engine alone says."""

from decimal import Decimal

import pytest

from detector import rulesfile
from detector.backtest.cost import MAX_SAMPLES, Cost
from detector.backtest.result import MAX_BUCKETS, Confusion, Reference, Result, Timeline
from detector.backtest.trial import Case, Trial
from detector.engine import Engine
from detector.windows import WindowLimits
from tests.rules import STRICTER
from wire.messages import EARLIEST_MS, Transaction


def test_costs_are_sampled_within_a_bound():
    """However many steps there are, a bounded number of samples is kept, early and late ones."""
    cost = Cost()
    for _ in range(10 * MAX_SAMPLES):
        cost.add(0, 1)
    assert MAX_SAMPLES / 2 <= len(cost._nanoseconds) < MAX_SAMPLES


def test_a_trial_decides_as_the_engine_does():
    """Watching the rules' cost changes no decision."""
    rules = rulesfile.parse(STRICTER.encode(), "rules.toml")
    result, engine = Result(rules, "the engine", 10), Engine(rules)
    trial = Trial(result, limits=WindowLimits())
    for number in range(50):
        transaction = Transaction(str(number), "ab"[number % 2], "x", Decimal(number * 20 + 1))
        [decided] = engine.decide([transaction], [number])
        reference = Reference(decided.decision, decided.score, decided.reasons)
        trial.take(Case(transaction, number, reference))
    trial.close()
    assert result.same
    assert result.decided == 50


def test_missing_and_changed_are_told_apart():
    """No verdict, another reason, a verdict too many: each is counted, with a few examples."""
    result = Result(rulesfile.load(None), "recorded", 1)
    trial = Trial(result, limits=WindowLimits())
    for number in range(3):
        small = Transaction(f"a{number}", "a", "x", Decimal(1))
        trial.take(Case(small, 1))
        large = Transaction(f"b{number}", "a", "x", Decimal(901))
        trial.take(Case(large, 1, Reference("fraud", 100)))
        trial.take(Case(small, 1, Reference("legit", 0)))
    trial.close()
    assert (result.missing, result.changed, result.extra, result.flips) == (3, 3, 3, 0)
    assert {kind: len(each) for kind, each in result.examples.items()} == {
        "became fraud": 0,
        "became legit": 0,
        "changed": 1,
        "missing": 1,
    }
    assert not result.same


@pytest.mark.parametrize("step", [1, 1_000, 3_600_000])
def test_a_timeline_has_few_buckets_and_loses_nothing(step):
    """However long the log, the plot has a bounded number of bars with every decision in one."""
    timeline = Timeline()
    for number in range(1_000):
        timeline.add(1_700_000_000_000 + number * step, "legit")
    assert len(list(timeline)) <= MAX_BUCKETS
    assert sum(counts.total() for _, counts in timeline) == 1_000


def test_a_timeline_begins_with_the_calendar():
    """A record of the year 1 makes buckets so wide that the first would begin before it."""
    timeline = Timeline()
    for time_ms in (EARLIEST_MS, 1_700_000_000_000):
        timeline.add(time_ms, "legit")
    begins = [begin_ms for begin_ms, _ in timeline]
    assert begins[0] == EARLIEST_MS
    assert sum(counts.total() for _, counts in timeline) == 2


def test_without_a_beginning_all_is_judged():
    """Also what is stamped before 1970, as the detector does."""
    result = Result(rulesfile.load(None), "nothing", 0)
    trial = Trial(result, limits=WindowLimits(), expects=False)
    trial.take(Case(Transaction("t", "a", "x", Decimal(1)), -1))
    trial.close()
    assert (result.decided, result.replayed) == (1, 0)


def test_shares_of_nothing_are_none():
    """Without fraud there is no recall."""
    confusion = Confusion({("legit", "legit"): 3})
    assert (confusion.precision, confusion.recall, confusion.f1) == (None, None, None)
