"""Replaying files: known data sets, named columns, their pace, lines that are no transaction."""

import time
from decimal import Decimal
from pathlib import Path

import pytest

from loadgen.errors import ReplayError
from loadgen.measure import Tally
from loadgen.payments import ORDINARY, Payment
from loadgen.replay import Replay

PAYSIM = """step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,\
newbalanceDest,isFraud,isFlaggedFraud
1,PAYMENT,9839.64,C1231006815,170136.0,160296.36,M1979787155,0.0,0.0,0,0
1,TRANSFER,181.0,C1305486145,181.0,0.0,C553264065,0.0,0.0,1,0
3,PAYMENT,11668.14,C2048537720,41554.0,29885.86,M1230701703,0.0,0.0,0,0
"""
SPARKOV = """,trans_date_trans_time,cc_num,merchant,category,amt,first,last,unix_time,is_fraud
0,2019-01-01 00:00:18,2703186189652095,"fraud_Rippin, Kub and Mann",misc_net,4.97,Jo,Ba,1325376018,0
1,2019-01-01 00:00:44,630423337322,"fraud_Heller",grocery_pos,107.23,St,Gi,1325376044,1
"""


def payments(path: Path, columns: dict[str, str] | None = None) -> list[Payment]:
    """Read all of a file, at any rate."""
    shots = Replay(path, columns, Tally()).shots(iter(range(99)), batch=1)
    return [shot.payments[0] for shot in shots]


@pytest.fixture
def paysim(tmp_path: Path) -> Path:
    """A few lines as PaySim has them."""
    path = tmp_path / "paysim.csv"
    path.write_text(PAYSIM)
    return path


def test_paysim_is_known_by_its_columns(paysim: Path) -> None:
    """Who, whom, how much, and whether it was fraud."""
    assert payments(paysim)[:2] == [
        Payment("C1231006815", "M1979787155", Decimal("9839.64"), "EUR", ORDINARY),
        Payment("C1305486145", "C553264065", Decimal("181.0"), "EUR", "fraud"),
    ]


def test_sparkov_is_known_by_its_columns(tmp_path: Path) -> None:
    """A quoted merchant with a comma in its name is one column."""
    path = tmp_path / "fraudTrain.csv"
    path.write_text(SPARKOV)
    assert payments(path) == [
        Payment("2703186189652095", "fraud_Rippin, Kub and Mann", Decimal("4.97"), "EUR", ORDINARY),
        Payment("630423337322", "fraud_Heller", Decimal("107.23"), "EUR", "fraud"),
    ]


def test_a_transaction_s_own_fields_are_known(tmp_path: Path) -> None:
    """JSONL as the gateway takes it; an amount's digits stay as they are written."""
    path = tmp_path / "own.jsonl"
    path.write_text(
        '{"source":"a","target":"b","amount":900.10,"currency":"USD","label":"mule"}\n\n'
        '{"source":"a","target":"b","amount":"900.01"}\n'
    )
    found = payments(path)
    assert found[0] == Payment("a", "b", Decimal("900.10"), "USD", "fraud")
    assert str(found[0].amount) == "900.10"
    assert found[1].currency == "EUR"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("windows.csv", "source,target,amount\r\na,b,1.5\r\n"),
        ("windows.jsonl", '{"source":"a","target":"b","amount":1.5}\r\n'),
        ("WINDOWS.JSONL", '{"source":"a","target":"b","amount":1.5}\r\n'),
    ],
)
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, name: str, text: str) -> None:
    """UTF-8 as spreadsheets write it."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert payments(path) == [Payment("a", "b", Decimal("1.5"), "EUR", ORDINARY)]


def test_columns_can_be_named(tmp_path: Path) -> None:
    """Any file with three columns that mean source, target and amount."""
    path = tmp_path / "bank.csv"
    path.write_text("from,to,value\nx,y,1.5\n")
    named = {"source": "from", "target": "to", "amount": "value"}
    assert payments(path, named) == [Payment("x", "y", Decimal("1.5"), "EUR", ORDINARY)]


def test_its_own_pace_is_scaled_by_the_speed(paysim: Path) -> None:
    """A PaySim step is an hour: two hours at 7200 times the speed are one second."""
    shots = Replay(paysim, None, Tally()).shots_at_own_pace(7200.0, batch=1)
    assert [shot.due for shot in shots] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_a_pace_does_not_depend_on_the_zone_of_the_machine(
    tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where times have no offset, no hour is left out or gone through twice."""
    path = tmp_path / "spring.csv"
    times = ("03-08 01:59:00", "03-08 03:01:00", "03-29 01:59:00", "03-29 03:01:00")
    rows = "".join(f"a,b,1,2026-{at}\n" for at in times)
    path.write_text("source,target,amount,occurred_at\n" + rows)
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        shots = Replay(path, None, Tally()).shots_at_own_pace(60.0, batch=1)
        due = [shot.due for shot in shots]
    time.tzset()
    weeks = 21 * 24 * 60.0
    assert due == [0.0, 62.0, weeks, weeks + 62.0]


@pytest.mark.parametrize("spoiled", [b"a\xff,b,1", b"a,b," + b"1" * 200_000, b"a,b,'\xe4'"])
def test_a_line_that_can_t_be_read_is_counted_and_the_rest_is_sent(
    tmp_path: Path, spoiled: bytes
) -> None:
    """Bytes that are no UTF-8, a field that is longer than any: no run ends by it."""
    path = tmp_path / "spoiled.csv"
    path.write_bytes(b"source,target,amount\na,b,1\n" + spoiled + b"\na,b,2\n")
    tally = Tally()
    (shot,) = Replay(path, None, tally).shots(iter(range(9)), batch=10)
    assert [payment.amount for payment in shot.payments] == [1, 2]
    assert tally.unreadable == 1


def test_lines_that_are_no_transaction_are_counted(tmp_path: Path) -> None:
    """They are left out, and the rest is sent."""
    path = tmp_path / "mixed.jsonl"
    path.write_text(
        '{"source":"a","target":"b","amount":"1"}\n'
        "not json\n"
        '{"source":"a","target":"b","amount":"-1"}\n'
        '{"source":"","target":"b","amount":"1"}\n'
        '{"source":null,"target":"b","amount":"1"}\n'
        '{"source":{},"target":"b","amount":"1"}\n'
        '{"source":"a","target":false,"amount":"1"}\n'
        + "[" * 100_000
        + '\n{"source":"a","target":"b","amount":"2"}\n'
    )
    tally = Tally()
    shots = list(Replay(path, None, tally).shots(iter(range(9)), batch=10))
    assert [payment.amount for payment in shots[0].payments] == [1, 2]
    assert tally.unreadable == 7


@pytest.mark.parametrize(
    "odd", ["a,b,1,nan", "a,b,1,-inf", "a,b,1,1e999", "a,b,1,1e300", "a,b,1", "a"]
)
def test_a_line_without_a_time_or_a_name_holds_up_no_other(tmp_path: Path, odd: str) -> None:
    """Whether it comes first, and would be the beginning, or later, and would never be due."""
    path = tmp_path / "odd.csv"
    for lines in ([odd, "a,b,1,5", "a,b,1,7"], ["a,b,1,5", odd, "a,b,1,7"]):
        path.write_text("\n".join(["source,target,amount,occurred_at", *lines]))
        tally = Tally()
        shots = Replay(path, None, tally).shots_at_own_pace(1.0, batch=1)
        assert [shot.due for shot in shots] == [0.0, 2.0]
        assert tally.unreadable == 1


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", None, "nothing in it"),
        ("a,b\n1,2\n", None, "no known data set"),
        ("a,b\n1,2\n", {"source": "a", "target": "b"}, "named for the amount"),
        ("a,b\n1,2\n", {"source": "a", "target": "b", "amount": "c"}, "no column c"),
        ("a,b\n1,2\n", {"source": "a", "target": "b", "amount": "b", "x": "a"}, "called x"),
    ],
)
def test_a_file_that_can_t_be_read_says_why(
    tmp_path: Path, text: str, columns: dict[str, str] | None, message: str
) -> None:
    """Before anything is sent."""
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(ReplayError, match=message):
        Replay(path, columns, Tally())
