"""Each kind of rule, at its edges."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector import rulesfile
from detector.engine import Engine
from detector.errors import RulesError
from detector.rules import KINDS, comprehension
from detector.rules.rule import span
from wire.messages import EARLIEST_MS, LATEST_MS, Transaction, instant

NOON_MS = 1_767_268_800_000  # 2026-01-01T12:00:00Z


def engine_of(kind, **fields):
    """Make an engine of one rule, in shadow so that its reasons always show."""
    lines = [f"{name} = {value}" for name, value in fields.items()]
    text = "\n".join(["[[rules]]", 'id = "r"', f'kind = "{kind}"', "shadow = true", *lines])
    return Engine(rulesfile.parse(text.encode(), "rules.toml"))


def payment(source="a", target="x", amount="1", **more):
    payment.count += 1
    return Transaction(str(payment.count), source, target, Decimal(amount), **more)


payment.count = 0


def details(engine, *payments, stamp=NOON_MS, step=0):
    """Give each payment's reason, or None; payments are `step` ms apart."""
    decided = engine.decide(payments, [stamp + i * step for i in range(len(payments))])
    return [each.reasons[0].detail if each.reasons else None for each in decided]


def test_amount_limit_is_strict():
    """The limit itself may pass."""
    expected = [None, "amount 900.0001 > 900"]
    found = details(
        engine_of("amount_limit", limit=900), payment(amount="900.00"), payment(amount="900.0001")
    )
    assert expected == found


def test_amount_limit_of_one_currency():
    """A rule with a currency does not see the others."""
    engine = engine_of("amount_limit", limit=900, currency='"JPY"')
    expected = [None, "amount 901 > 900"]
    assert expected == details(engine, payment(amount="901"), payment(amount="901", currency="JPY"))


def test_velocity_counts_per_account():
    """Each transaction beyond the limit hits, the others of the account and others' don't."""
    engine = engine_of("velocity", within='"60s"', limit=2)
    expected = [None, None, None, "3 transactions in 60 s, limit 2"]
    assert expected == details(engine, payment(), payment(), payment(source="b"), payment())


def test_velocity_forgets():
    """Transactions further apart than the window never hit."""
    engine = engine_of("velocity", within='"60s"', limit=1)
    expected = [None] * 3
    assert expected == details(engine, payment(), payment(), payment(), step=60_000)


def test_sums_are_exact():
    """A hundred times 0.1 is 10, and not more."""
    engine = engine_of("sum_limit", within='"10m"', limit=10)
    payments = [payment(amount="0.1") for _ in range(100)]
    assert details(engine, *payments) == [None] * 100
    assert details(engine, payment(amount="0.0001")) == ["10.0001 EUR in 10 min, limit 10"]


def test_sums_do_not_add_currencies_up():
    """100 yen and 100 euros are not 200 of anything."""
    engine = engine_of("sum_limit", within='"10m"', limit=150)
    expected = [None, None, "200 JPY in 10 min, limit 150"]
    assert expected == details(
        engine,
        payment(amount="100"),
        payment(amount="100", currency="JPY"),
        payment(amount="100", currency="JPY"),
    )


def test_structuring_counts_amounts_just_under_the_limit():
    """The third in the band hits; one out of the band neither counts nor hits."""
    engine = engine_of("structuring", within='"1h"', count=3, least=850, most=900)
    expected = [None, None, None, None, "3 amounts of 850 to 900 in 60 min, limit 2"]
    amounts = ["850", "900", "849.9999", "900.0001", "875"]
    assert expected == details(engine, *(payment(amount=amount) for amount in amounts))


def test_new_counterparty_is_large_and_first():
    """The first payment hits if it is large; any payment makes the target known."""
    engine = engine_of("new_counterparty", within='"1h"', limit=500)
    expected = [
        "amount 501 > 500, to an account not paid in 60 min",
        None,
        None,
        None,
        "amount 501 > 500, to an account not paid in 60 min",
    ]
    assert expected == details(
        engine,
        payment(amount="501"),
        payment(amount="501"),
        payment(target="y", amount="500"),
        payment(target="y", amount="501"),
        payment(source="b", amount="501"),
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"accounts": '["a"]'}, ["source a is listed", "target a is listed", None]),
        ({"accounts": '["a"]', "side": '"source"'}, ["source a is listed", None, None]),
        ({"accounts": '["a"]', "side": '"target"'}, [None, "target a is listed", None]),
        ({"pairs": '[["a", "b"]]'}, ["payments from a to b are listed", None, None]),
    ],
)
@pytest.mark.parametrize("kind", ["block_list", "allow_list"])
def test_lists(kind, fields, expected):
    """Accounts are listed as source, target or either; pairs in their direction."""
    payments = [payment("a", "b"), payment("b", "a"), payment("b", "c")]
    assert expected == details(engine_of(kind, **fields), *payments)


@pytest.mark.parametrize(
    ("clock", "after", "before", "hit"),
    [
        ("22:00", "22:00", "06:00", True),
        ("21:59", "22:00", "06:00", False),
        ("05:59", "22:00", "06:00", True),
        ("06:00", "22:00", "06:00", False),
        ("01:00", "01:00", "05:00", True),
        ("04:59", "01:00", "05:00", True),
        ("05:00", "01:00", "05:00", False),
        ("00:59", "01:00", "05:00", False),
    ],
)
def test_odd_hours_may_span_midnight(clock, after, before, hit):
    """The hours include their beginning and not their end."""
    engine = engine_of("odd_hours", after=f'"{after}"', before=f'"{before}"')
    expected = [f"at {clock}, between {after} and {before} UTC" if hit else None]
    moment = datetime.fromisoformat(f"2026-01-01T{clock}:00+00:00")
    assert expected == details(engine, payment(occurred_at=moment))


@pytest.mark.parametrize(
    ("zone", "clock"),
    [("UTC", "12:00"), ("+05:30", "17:30"), ("-03:00", "09:00"), ("Europe/Berlin", "13:00")],
)
def test_odd_hours_go_by_the_clock_of_a_zone(zone, clock):
    """Without occurred_at the record's timestamp is what counts."""
    engine = engine_of("odd_hours", after='"00:00"', before='"23:59"', zone=f'"{zone}"')
    expected = [f"at {clock}, between 00:00 and 23:59 {zone}"]
    assert expected == details(engine, payment())


def test_odd_hours_in_summer_time():
    """A named zone knows its daylight saving."""
    engine = engine_of("odd_hours", after='"00:00"', before='"23:59"', zone='"Europe/Berlin"')
    moment = datetime.fromisoformat("2026-07-01T12:00:00+00:00")
    expected = ["at 14:00, between 00:00 and 23:59 Europe/Berlin"]
    assert expected == details(engine, payment(occurred_at=moment))


@pytest.mark.parametrize(
    ("moment", "zone"),
    [
        ("9999-12-31T23:30:00+00:00", "Europe/Berlin"),
        ("0001-01-01T00:30:00+00:00", "America/New_York"),
        ("0001-01-01T00:30:00+00:00", "-05:00"),
    ],
)
def test_odd_hours_have_no_answer_at_the_calendars_ends(moment, zone):
    """What no clock of the zone shows is not hit, and counted; a record's own time just so."""
    engine = engine_of("odd_hours", after='"00:00"', before='"23:59"', zone=f'"{zone}"')
    at = datetime.fromisoformat(moment)
    payments = [payment(occurred_at=at), payment(occurred_at=at.replace(year=2026)), payment()]
    found = details(engine, *payments, stamp=round(at.timestamp() * 1000))
    assert [detail is None for detail in found] == [True, False, True]
    assert engine.failures()["r"].times == 2


ENDS = [EARLIEST_MS, 0, LATEST_MS]
KINDS_WITH_FIELDS = {
    "amount_limit": {"limit": 1},
    "velocity": {"within": '"7d"', "limit": 1},
    "sum_limit": {"within": '"7d"', "limit": 1},
    "structuring": {"within": '"7d"', "count": 2, "least": 1, "most": 10**14 - 1},
    "new_counterparty": {"within": '"7d"', "limit": 1},
    "block_list": {"accounts": '["a"]'},
    "allow_list": {"accounts": '["a"]'},
    "odd_hours": {"after": '"22:00"', "before": '"06:00"', "zone": '"Asia/Tokyo"'},
    "cel": {"condition": '"occurred_at != null && (occurred_at - received_at).getHours() > 1"'},
}


def test_every_kind_is_tried_at_the_ends():
    """The next test leaves no kind out."""
    assert set(KINDS_WITH_FIELDS) == set(KINDS)


@given(
    kind=st.sampled_from(sorted(KINDS_WITH_FIELDS)),
    log=st.lists(
        st.tuples(
            st.sampled_from(["0.0001", "99999999999999.9999"]),
            st.sampled_from([None, *ENDS]),
            st.sampled_from(ENDS),
        ),
        max_size=5,
    ),
)
def test_no_transaction_that_can_be_accepted_stops_a_rule(kind, log):
    """Least and greatest amounts and times are decided on by every kind."""
    payments = [
        payment(amount=amount, occurred_at=None if ms is None else instant(ms))
        for amount, ms, _ in log
    ]
    decided = engine_of(kind, **KINDS_WITH_FIELDS[kind]).decide(payments, [at for *_, at in log])
    assert len(decided) == len(log)
    assert None not in decided


@pytest.mark.parametrize(
    ("condition", "hit"),
    [
        ("amount > 900.01", False),
        ("amount >= 900.01", True),
        ("source == 'a' && target.startsWith('x')", True),
        ("has(metadata.channel) && metadata.channel == 'web'", True),
        ("metadata.exists(key, key == 'channel')", True),
        ("occurred_at == null", True),
        ("received_at.getHours() == 12", True),
        ("currency in ['USD', 'JPY']", False),
    ],
)
def test_conditions_in_cel(condition, hit):
    """A condition can speak of every field, and hits where it is true."""
    engine = engine_of("cel", condition=f'"{condition}"')
    expected = [f"condition holds: {condition}" if hit else None]
    assert expected == details(engine, payment(amount="900.01", metadata={"channel": "web"}))
    assert engine.failures() == {}


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("cel", {"condition": '"metadata.flag"'}, "neither true nor false"),
        ("cel", {"condition": '"metadata.none == source"'}, "KeyError"),
        ("cel", {"condition": '"timestamp(metadata.flag) < received_at"'}, "RuntimeError"),
        (
            "odd_hours",
            {"after": '"22:00"', "before": '"06:00"', "zone": '"-12:00"'},
            "no time of day",
        ),
    ],
)
def test_why_there_is_no_answer_has_a_part_for_logs(kind, fields, why):
    """Before the colon; the record's own values stand behind it."""
    engine = engine_of(kind, **fields)
    of = payment(metadata={"flag": "c4n4ry"}, occurred_at=datetime.min.replace(tzinfo=UTC))
    assert details(engine, of) == [None]
    assert engine.failures()["r"].last.partition(":")[0] == why


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("amount > 1.0 && (source == 'a' || [1][0] == 1)", 0),
        ("metadata.exists(k, k == 'a') || metadata.all(k, k != 'b') || [1].map(x, x) == [1]", 1),
        ("metadata.exists(k, ['a', 'b'].exists(p, k.startsWith(p)))", 2),
        ("[1].filter(x, x > 0).map(x, x + x) == [2]", 2),
        ("([1].map(x, x) + [2])[0].map(y, y).size() == 1", 2),
        ("{'a': [1].map(x, x)}.all(k, k != '')", 2),
        ("[1] . all (x, [1].map(y, y).map(z, z) == [x])", 3),
        ("[1].all// )\n(x, [1].exists(y, [y].exists_one(z, true)))", 3),
        ('source == \'.map(.map(\' || source == r\'\\\' || source == """.all("""', 0),
        ("source == '\\').map(x, x)' // .map(.map(.map(", 0),
    ],
)
def test_comprehensions_are_counted_along_the_longest_row(condition, expected):
    """Those in one another and those in a chain; side by side they add up, and are no danger."""
    assert comprehension.depth(condition) == expected


@pytest.mark.parametrize("link", ["[1, 2, 3, 4].all(x, {})", "{}.map(x, x + x)"])
def test_a_condition_without_end_is_refused(link):
    """By its form, before it is tried: tried, it would never come back, or take all memory."""
    condition = "true" if "all" in link else "['a']"
    for _ in range(60):
        condition = link.format(condition)
    rest = "" if "all" in link else ".size() == 1"
    with pytest.raises(RulesError, match="in or after one another"):
        engine_of("cel", condition=f'"{condition}{rest}"')


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (60_000, "60 s"),
        (600_000, "10 min"),
        (3_600_000, "60 min"),
        (7_200_000, "2 h"),
        (90_000, "90 s"),
        (1_500, "1500 ms"),
        (604_800_000, "7 d"),
    ],
)
def test_durations_read_well(duration_ms, text):
    """A window's length is told in the unit a person would choose."""
    assert text == span(duration_ms)
