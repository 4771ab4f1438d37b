"""The engine: a function of one partition's records, whether it began early or late."""

from decimal import Decimal
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from detector import rulesfile
from detector.engine import Decided, Engine, Failures
from detector.windows import WindowLimits
from wire.messages import Reason, Transaction

ALL_WINDOWS = b"""
threshold = 50
duplicates = "40s"
[[rules]]
id = "amount"
kind = "amount_limit"
limit = 900
[[rules]]
id = "velocity"
kind = "velocity"
weight = 30
within = "50s"
limit = 2
[[rules]]
id = "sum"
kind = "sum_limit"
weight = 30
within = "60s"
limit = 1500
[[rules]]
id = "structuring"
kind = "structuring"
weight = 30
within = "70s"
count = 2
least = 850
most = 900
[[rules]]
id = "new"
kind = "new_counterparty"
weight = 20
within = "30s"
limit = 600
"""
RULES = rulesfile.parse(ALL_WINDOWS, "rules.toml")
SHORTER = rulesfile.parse(ALL_WINDOWS.replace(b"40s", b"15s"), "shorter.toml")
OTHERS = [
    SHORTER,
    rulesfile.parse(ALL_WINDOWS.replace(b"limit = 2", b"limit = 1"), "limit.toml"),
    rulesfile.parse(b'duplicates = "40s"', "none.toml"),
    rulesfile.parse(b'duplicates = "15s"', "none_shorter.toml"),
]
DEFAULT = rulesfile.load(None)

transactions = st.builds(
    Transaction,
    transaction_id=st.sampled_from("12345"),
    source=st.sampled_from("aab"),
    target=st.sampled_from("xyz"),
    amount=st.sampled_from(["0.0001", "300", "600.01", "850", "899.9999", "900", "900.01"]).map(
        Decimal
    ),
    currency=st.sampled_from(["EUR", "JPY"]),
)
steps = st.sampled_from([-15_000, 0, 1, 4_000, 10_000, 20_000, 30_000, 39_999])


@st.composite
def logs(draw, min_size=0):
    """Records whose timestamps mostly go on, and sometimes back."""
    records = draw(st.lists(st.tuples(transactions, steps), min_size=min_size, max_size=50))
    stamps = accumulate((step for _, step in records), initial=100_000)
    return [(transaction, stamp) for (transaction, _), stamp in zip(records, stamps, strict=False)]


def payment(transaction_id="1", source="a", target="x", amount="1", **more):
    return Transaction(transaction_id, source, target, Decimal(amount), **more)


def decide_all(engine, log):
    return engine.decide(*columns(log))


def decide(engine, transaction, stamp):
    [decided] = engine.decide([transaction], [stamp])
    return decided


def columns(log):
    """Give the transactions of a log, and their timestamps."""
    return [transaction for transaction, _ in log], [stamp for _, stamp in log]


def decide_from_scratch(log, at):
    """Judge the record at an index by looking through the whole log before it, rule by rule."""
    times = list(accumulate((stamp for _, stamp in log), max))

    def duplicate(i):
        this = log[i][0]
        return any(
            (log[j][0].source, log[j][0].transaction_id) == (this.source, this.transaction_id)
            and times[i] - times[j] < 40_000
            for j in range(i)
        )

    def within(ms):
        """Give the account's transactions that count, the one at hand included."""
        return [
            log[j][0]
            for j in range(at + 1)
            if times[at] - times[j] < ms and log[j][0].source == this.source and not duplicate(j)
        ]

    this = log[at][0]
    if duplicate(at):
        return None
    hits = {}
    if this.amount > 900:
        hits["amount"] = (100, f"amount {this.amount} > 900")
    count = len(within(50_000))
    if count > 2:
        hits["velocity"] = (30, f"{count} transactions in 50 s, limit 2")
    total = sum(each.amount for each in within(60_000) if each.currency == this.currency)
    if total > 1500:
        text = format(total.normalize(), "f")
        hits["sum"] = (30, f"{text} {this.currency} in 60 s, limit 1500")
    band = [each for each in within(70_000) if 850 <= each.amount <= 900]
    if this in band and len(band) >= 2:
        hits["structuring"] = (30, f"{len(band)} amounts of 850 to 900 in 70 s, limit 1")
    if this.amount > 600 and this.target not in [each.target for each in within(30_000)[:-1]]:
        hits["new"] = (20, f"amount {this.amount} > 600, to an account not paid in 30 s")
    score = min(100, sum(weight for weight, _ in hits.values()))
    reasons = tuple(Reason(rule, "1", detail) for rule, (_, detail) in hits.items())
    return Decided("fraud" if score >= 50 else "legit", score, reasons)


@given(log=logs())
def test_incremental_equals_from_scratch(log):
    """Each decision is what looking through the whole log before it gives."""
    expected = [decide_from_scratch(log, at) for at in range(len(log))]
    assert expected == decide_all(Engine(RULES), log)


@settings(max_examples=400)
@given(log=logs(min_size=1), entries=st.sampled_from([1, 3, 10, 1_000]), data=st.data())
def test_a_replay_from_the_horizon_equals_the_full_history(log, entries, data):
    """Reading from the horizon on gives the same decisions, wherever it was taken over.

    Also with timestamps in any order, and with windows so small that they evict.
    """
    committed = data.draw(st.integers(0, len(log) - 1), "committed")
    limits = WindowLimits(entries)
    stamps = [stamp for _, stamp in log]
    wanted = stamps[committed] - RULES.horizon_ms
    # What Kafka's offset for a timestamp is: the first record at or after it.
    start = next(i for i, stamp in enumerate(stamps) if stamp >= wanted)
    start = min(start, committed)

    replayed = Engine(RULES, limits)
    replayed.take_in(*columns(log[start:committed]))

    expected = decide_all(Engine(RULES, limits), log)[committed:]
    assert expected == decide_all(replayed, log[committed:])


@given(log=logs(), entries=st.sampled_from([1, 3, 1_000]), cuts=st.lists(st.integers(0, 50)))
def test_batches_make_no_difference(log, entries, cuts):
    """However the log is cut into batches, each decision is the same, and so are the windows."""
    whole, cut = Engine(RULES, WindowLimits(entries)), Engine(RULES, WindowLimits(entries))
    bounds = [0, *sorted(cuts), len(log)]
    decided = [decide_all(cut, log[begin:end]) for begin, end in pairwise(bounds)]
    assert decide_all(whole, log) == [each for batch in decided for each in batch]
    assert (whole.entries, whole.evicted) == (cut.entries, cut.evicted)


@given(log=logs(), new=st.sampled_from(OTHERS), at=st.integers(0, 50))
@example(log=[(payment("1"), 0), (payment("1"), 20_000), (payment("2"), 20_000)], new=SHORTER, at=2)
def test_rules_that_fit_decide_as_if_they_had_always_been_in_force(log, new, at):
    """So it makes no difference whether windows were kept at a reload or rebuilt since."""
    kept, rebuilt = Engine(RULES), Engine(new)
    decide_all(kept, log[:at])
    assume(kept.fits(new))
    kept.rules = new
    rebuilt.take_in(*columns(log[:at]))
    assert decide_all(rebuilt, log[at:]) == decide_all(kept, log[at:])


@given(log=logs())
def test_the_same_log_gives_the_same_decisions(log):
    """Deciding is deterministic."""
    assert decide_all(Engine(RULES), log) == decide_all(Engine(RULES), log)


@pytest.mark.parametrize(
    ("amount", "decision"), [("900", "legit"), ("900.00", "legit"), ("900.0001", "fraud")]
)
def test_the_default_rule_is_amount_above_900(amount, decision):
    """More than 900 is fraud; 900 is not."""
    assert decision == decide(Engine(DEFAULT), payment(amount=amount), 1).decision


def test_a_verdict_says_why():
    """The reasons give the numbers."""
    expected = Decided("fraud", 100, (Reason("amount-limit", "1", "amount 900.01 > 900"),))
    assert expected == decide(Engine(DEFAULT), payment(amount="900.01"), 1)


def test_a_duplicate_has_no_verdict():
    """The same id from the same source again is no new transaction; from another it is one."""
    engine = Engine(DEFAULT)
    log = [
        (payment("1", "a"), 1),
        (payment("1", "a", amount="901"), 2),
        (payment("1", "b"), 3),
        (payment("1", "a"), 2 + DEFAULT.duplicates_ms),
    ]
    assert [each is None for each in decide_all(engine, log)] == [False, True, False, False]


def test_a_duplicate_does_not_count_in_windows():
    """A client that tries again does not come nearer to a velocity limit."""
    engine = Engine(RULES)
    decided = decide_all(engine, [(payment("1"), 1), (payment("1"), 1), (payment("2"), 1)])
    assert [each and each.reasons for each in decided] == [(), None, ()]


def test_a_record_that_is_late_counts_at_stream_time():
    """A timestamp that goes backwards does not bring back what has expired."""
    engine = Engine(RULES)
    log = [(payment("1"), 1_000), (payment("2"), 100_000), (payment("1"), 1_001)]
    assert all(decide_all(engine, log))


def rules_of(*rules, threshold=50):
    return rulesfile.parse(
        f"threshold = {threshold}\n".encode()
        + b"".join(b"[[rules]]\n" + rule.encode() + b"\n" for rule in rules),
        "rules.toml",
    )


LARGE = 'id = "large"\nkind = "amount_limit"\nlimit = 100\nweight = 40'
LARGER = 'id = "larger"\nkind = "amount_limit"\nlimit = 200\nweight = 70'
ALLOW = 'id = "allow"\nkind = "allow_list"\naccounts = ["a"]'
BLOCK = 'id = "block"\nkind = "block_list"\naccounts = ["a"]'
SHADOW = "\nshadow = true"


@pytest.mark.parametrize(
    ("rules", "amount", "decision", "score", "reasons"),
    [
        ([LARGE, LARGER], "100", "legit", 0, []),
        ([LARGE, LARGER], "150", "legit", 40, ["large"]),
        ([LARGE, LARGER], "250", "fraud", 100, ["large", "larger"]),
        ([LARGE + SHADOW, LARGER], "250", "fraud", 70, ["large", "larger"]),
        ([LARGE, LARGER + SHADOW], "250", "legit", 40, ["large", "larger"]),
        ([BLOCK, LARGER, ALLOW], "250", "legit", 0, ["allow"]),
        ([LARGER, LARGE + SHADOW, ALLOW], "250", "legit", 0, ["large", "allow"]),
        ([LARGER, ALLOW + SHADOW], "250", "fraud", 70, ["larger", "allow"]),
        ([], "250", "legit", 0, []),
    ],
)
def test_score_threshold_shadow_and_allow(rules, amount, decision, score, reasons):
    """Weights add up to 100 at most, shadow never counts, allow decides whatever others say."""
    decided = decide(Engine(rules_of(*rules)), payment(amount=amount), 1)
    assert (decision, score, reasons) == (
        decided.decision,
        decided.score,
        [reason.rule for reason in decided.reasons],
    )


def test_shadow_is_said_in_the_reason():
    """A reader of a verdict can tell what was on trial."""
    decided = decide(Engine(rules_of(LARGER + SHADOW)), payment(amount="250"), 1)
    assert [reason.shadow for reason in decided.reasons] == [True]


def test_an_allowed_transaction_still_counts_in_the_windows():
    """An allow list decides; it does not hide what an account does."""
    velocity = 'id = "velocity"\nkind = "velocity"\nwithin = "60s"\nlimit = 1'
    allow = 'id = "allow"\nkind = "allow_list"\npairs = [["a", "friend"]]'
    engine = Engine(rules_of(velocity, allow))
    log = [(payment("1", target="friend"), 1), (payment("2", target="x"), 1)]
    assert [each.decision for each in decide_all(engine, log)] == ["legit", "fraud"]


def test_a_condition_without_an_answer_does_not_hit_and_is_counted():
    """The transaction is decided all the same, and the failure can be seen."""
    condition = 'id = "cel"\nkind = "cel"\ncondition = "metadata.channel == \'web\'"'
    engine = Engine(rules_of(condition))
    log = [
        (payment("1"), 1),
        (payment("2", metadata={"channel": "web"}), 1),
        (payment("3"), 1),
    ]
    decisions = [each.decision for each in decide_all(engine, log)]
    assert decisions == ["legit", "fraud", "legit"]
    assert {"cel": Failures(2, "KeyError: 'channel'")} == engine.failures()


def test_a_rule_that_breaks_stops_nothing():
    """What it stumbles over it does not hit; it is asked about the others, and so are others."""

    def fragile(check):
        def breaks(rows, received_ms):
            for row in rows:
                if row[1].transaction_id == "2":
                    raise ArithmeticError("2 is odd")
                yield from check([row], received_ms)

        return breaks

    rules = rules_of(LARGE, LARGER, threshold=40)
    engine = Engine(
        rules, watch=lambda rule, check: fragile(check) if rule.id == "large" else check
    )
    decided = decide_all(engine, [(payment(each, amount="250"), 1) for each in "123"])
    assert [[reason.rule for reason in each.reasons] for each in decided] == [
        ["large", "larger"],
        ["larger"],
        ["large", "larger"],
    ]
    assert {"large": Failures(1, "ArithmeticError: 2 is odd")} == engine.failures()


def test_new_rules_keep_the_windows_that_fit():
    """Swapping rules forgets neither duplicates nor what the same windows hold."""
    velocity = 'id = "velocity"\nkind = "velocity"\nwithin = "60s"\nlimit = {}'
    old, new = rules_of(velocity.format(9)), rules_of(velocity.format(1))
    engine = Engine(old)
    decide(engine, payment("1"), 1)
    assert engine.fits(new)
    engine.rules = new
    assert decide(engine, payment("1"), 2) is None
    assert decide(engine, payment("2"), 2).decision == "fraud"


@pytest.mark.parametrize("content", ['duplicates = "11m"', "[[rules]]\n" + LARGE])
def test_rules_that_look_back_further_do_not_fit(content):
    """Windows of another kind or length can only be filled by a replay."""
    new = rulesfile.parse(content.encode(), "new.toml")
    assert Engine(DEFAULT).fits(new) == ("kind" in content)
    assert not Engine(DEFAULT).fits(RULES)


def test_entries_and_evictions_are_counted():
    """What the metrics show is what the windows hold."""
    engine = Engine(DEFAULT, WindowLimits(entries=2))
    decide_all(engine, [(payment(str(number)), 1) for number in range(5)])
    assert (engine.entries, engine.evicted) == (2, 3)
