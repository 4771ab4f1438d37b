"""The filters of a stream."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from api.streams.event import Event
from api.streams.filters import Filter, parse
from wire.messages import Reason, Verdict, encode

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def event(**given: Any) -> Event:
    """Make an event of a verdict."""
    fields: dict[str, Any] = {
        "transaction_id": "t",
        "source": "anna",
        "target": "ben",
        "amount": Decimal("900.01"),
        "currency": "EUR",
        "decision": "fraud",
        "score": 90,
        "reasons": (Reason("amount", "1", "amount 900.01 > 900"),),
        "rules_version": "1",
        "received_at": NOW,
        "decided_at": NOW,
    }
    return Event(0, 0, 0, 0, encode(Verdict(**(fields | given))))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"min_amount": "900.01"}, True),
        ({"min_amount": "900.0101"}, False),
        ({"min_amount": "0"}, True),
        ({"account": "anna"}, True),
        ({"account": "ben"}, True),
        ({"account": "ann"}, False),
        ({"currency": "EUR"}, True),
        ({"currency": "USD"}, False),
        ({"rule": "amount"}, True),
        ({"rule": "velocity"}, False),
        ({"rule": "amount", "account": "ben", "min_amount": "1", "currency": "EUR"}, True),
        ({"rule": "amount", "account": "eve"}, False),
    ],
)
def test_all_conditions_must_hold(query: dict[str, str], *, expected: bool) -> None:
    """A filter lets an event through if each of its conditions holds."""
    only, errors = parse(**(dict.fromkeys(("min_amount", "account", "currency", "rule")) | query))
    assert not errors
    assert only is not None
    assert only.matches(event()) is expected


def test_no_condition_is_no_filter() -> None:
    """A stream without filter shares its chunks with all others."""
    assert parse(None, None, None, None) == (None, [])


def test_equal_amounts_make_one_filter() -> None:
    """Clients that want the same share the work."""
    one, _ = parse("900", None, None, None)
    two, _ = parse("900.00", None, None, None)
    assert one == two
    assert hash(one) == hash(two)


@pytest.mark.parametrize("amount", ["", "-1", "1e3", "NaN", "1,5", "٣", "1" * 19, "1.23456", " 1"])
def test_a_bad_amount_is_named(amount: str) -> None:
    """The error points at the parameter."""
    _, errors = parse(amount, None, None, None)
    assert [error.pointer for error in errors] == ["/query/min_amount"]


def test_every_bad_filter_is_named() -> None:
    """All errors are told at once."""
    _, errors = parse("x", "", "eur", "r" * 65)
    assert {error.pointer for error in errors} == {
        "/query/min_amount",
        "/query/account",
        "/query/currency",
        "/query/rule",
    }


def test_what_is_no_verdict_passes_no_filter() -> None:
    """A foreign record in a verdict topic is shown to those who want everything only."""
    assert not Filter(account="anna").matches(Event(0, 0, 0, 0, b"not json"))
