"""Masked accounts: the same id always, no way back, and no account left anywhere in a verdict."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.masking import PRINCIPAL, Mask, Masking, Viewer, is_masked
from api.settings import ApiSettings
from api.streams import filters
from api.streams.event import Event
from tests.streaming import verdict
from wire.errors import SettingsError
from wire.messages import Reason, decode_verdict
from wire.settings import load

KEY = b"k" * 32
MASK = Mask(KEY)
MASKED = Viewer(MASK, is_masked=True)
CLEAR = Viewer(MASK)
# What begins as CEL quotes is hidden to its end, name and all.
NAMES = st.text("abcdeABC019-_.@/|+ é'\"\\", min_size=1, max_size=64).filter(
    lambda name: name.strip() and name[0] not in "'\"" and not name.startswith("//")
)


@dataclass
class Principal:
    """Someone who has signed in."""

    scopes: frozenset[str]


def test_a_masked_id_is_stable() -> None:
    """Held fixed: another form or hash would make strangers of known accounts in an upgrade.

    As `printf account:anna | openssl dgst -sha256 -hmac KEY` gives it, 24 digits of it.
    """
    assert MASK.account("anna") == "masked-6290514eb15be9d0c5b6ba86"
    assert Mask(KEY).account("anna") == MASK.account("anna")
    assert Mask(b"x" * 32).account("anna") != MASK.account("anna")
    assert MASK.account("anna") != MASK.account("Anna")
    assert is_masked(MASK.account("anna"))
    assert not is_masked("anna")


@given(NAMES, NAMES)
def test_no_account_is_left(source: str, target: str) -> None:
    """Not in the fields, not in the reasons' words, not in the transaction's id or metadata."""
    detail = f"payments from {source} to {target} are listed"
    value = verdict(
        f"t-{source}"[:64],
        source=source,
        target=target,
        reasons=(Reason("list", "1", detail),),
        metadata={"iban": target},
    )
    masked = MASK.verdict(value)
    assert masked is not None
    found = decode_verdict(masked)
    assert (found.source, found.target) == (MASK.account(source), MASK.account(target))
    assert found.metadata is None
    rest = found.reasons[0].detail.replace(found.source, "").replace(found.target, "")
    assert rest in ("payments from  to  are listed", detail.replace(source, "").replace(target, ""))
    assert found.amount == decode_verdict(value).amount


@pytest.mark.parametrize("transaction_id", ["anna-1", "pay_anna_1", "x" * 59 + ".anna", "ben"])
def test_ids_that_name_an_account_are_masked(transaction_id: str) -> None:
    """A sender may have put an account into a transaction's id; other ids stay as they are."""
    masked = MASK.verdict(verdict(transaction_id))
    assert masked is not None
    assert is_masked(decode_verdict(masked).transaction_id)
    other = MASK.verdict(verdict("annabel-1"))
    assert other is not None
    assert decode_verdict(other).transaction_id == "annabel-1"


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("amount 900.01 > 900", "amount 900.01 > 900"),
        ("source anna is listed", f"source {MASK.account('anna')} is listed"),
        ("annabel and joanna", "annabel and joanna"),
        ("condition holds: source in ['eve', \"bob\"]", "condition holds: source in ['…', \"…\"]"),
        (r"x == 'it\'s eve' && y == 'bob", "x == '…' && y == '"),
    ],
)
def test_reasons_keep_their_numbers(detail: str, shown: str) -> None:
    """What is hidden is accounts: those of the transaction, and any that a rule's text names."""
    masked = MASK.verdict(verdict("t", reasons=(Reason("r", "1", detail),)))
    assert masked is not None
    assert json.loads(masked)["reasons"][0]["detail"].rstrip("…'") == shown.rstrip("…'")
    assert "eve" not in masked.decode()


@pytest.mark.parametrize(
    ("source", "detail", "shown"),
    [
        ("o'brien", "source o'brien is listed", "source MASKED is listed"),
        ('7"x', 'payments from 7"x to ben are listed', "payments from MASKED to BEN are listed"),
        ("'", "x: source == 'eve'", "x: source == '…'"),
        ("anna", "x: source == '''it's eve'''", "x: source == '''…'''"),
        (
            "anna",
            "x: y.endsWith(r'\\') || source in ['eve']",
            "x: y.endsWith('…') || source in ['…']",
        ),
        ("anna", "x: // don't pay\nsource == 'eve'", "x: //…\nsource == '…'"),
        ("anna", "x: // eve", "x: //…"),
    ],
)
def test_quotation_marks_give_nobody_away(source: str, detail: str, shown: str) -> None:
    """Neither those in an account's id, nor any way in which CEL writes texts and comments."""
    reasons = (Reason("r", "1", detail),)
    masked = MASK.verdict(verdict("t", source=source, target="ben", reasons=reasons))
    assert masked is not None
    expected = shown.replace("MASKED", MASK.account(source)).replace("BEN", MASK.account("ben"))
    assert decode_verdict(masked).reasons[0].detail == expected


def test_what_is_no_verdict_is_not_shown() -> None:
    """Nobody knows what it holds."""
    assert MASK.verdict(b'{"source": "anna"}') is None
    assert MASKED.verdict(b"anna") is None
    assert CLEAR.verdict(b"anna") == b"anna"


def test_filters_tell_no_more_than_verdicts() -> None:
    """Who sees masked ids filters by those only; who sees accounts, by either."""
    event = Event(0, 0, 0, 0, verdict("t", source="anna", target="ben"))
    masked_id = MASK.account("ben")
    _, errors = filters.parse(None, "ben", None, None, MASKED)
    assert [error.pointer for error in errors] == ["/query/account"]
    hidden, _ = filters.parse(None, masked_id, None, None, MASKED)
    assert hidden is not None
    assert hidden.shown(event) == MASK.verdict(event.value)
    for account in ("ben", masked_id):
        shown, _ = filters.parse(None, account, None, None, CLEAR)
        assert shown is not None
        assert shown.shown(event) == event.value
    other, _ = filters.parse(None, MASK.account("eve"), None, None, MASKED)
    assert other is not None
    assert other.shown(event) is None
    all_of_it, _ = filters.parse(None, None, None, None, MASKED)
    assert all_of_it is not None
    assert all_of_it.shown(event) == MASK.verdict(event.value)
    assert filters.parse(None, None, None, None, CLEAR) == (None, [])


@pytest.mark.parametrize(
    ("mode", "scopes", "is_hidden"),
    [
        ("never", None, False),
        ("never", (), False),
        ("always", ("accounts:read",), True),
        ("unless-scope", None, True),
        ("unless-scope", ("stream:fraud",), True),
        ("unless-scope", ("accounts:read",), False),
    ],
)
def test_who_sees_accounts(mode: str, scopes: tuple[str, ...] | None, *, is_hidden: bool) -> None:
    """By the setting, and by the scope of who has signed in; nobody's scope is no scope."""
    settings = load(ApiSettings, stream_mask_accounts=mode, stream_mask_key="k" * 32)
    scope = {} if scopes is None else {PRINCIPAL: Principal(frozenset(scopes))}
    assert Masking(settings).viewer(scope).is_masked == is_hidden


@pytest.mark.parametrize(
    ("given_settings", "says"),
    [
        ({}, "needs STREAM_MASK_KEY"),
        ({"stream_mask_key": "c4n4ry"}, "at least 16"),
        ({"stream_mask_key_file": "short"}, "must hold 16 characters"),
    ],
)
def test_a_key_is_needed(
    given_settings: dict[str, str], says: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One that can't be guessed; and it is not shown when it is refused."""
    file = tmp_path_factory.mktemp("key") / "key"
    file.write_text("c4n4ry\n")
    if "stream_mask_key_file" in given_settings:
        given_settings = {"stream_mask_key_file": str(file)}
    with pytest.raises(SettingsError, match=says) as refused:
        load(ApiSettings, stream_mask_accounts="always", **given_settings)
    assert "c4n4ry" not in str(refused.value)
