"""Posted transactions that are validated together come out as if each were validated alone."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.bulk import accept_all
from wire.messages import encode
from wire.posted import accept

PLAIN = {"source": "acc-1", "target": "shop", "amount": "12.50"}

# Tokens that are right, wrong, or right in an unusual way, for the fields that they belong to.
NAMES = [
    *('"a"', '"é"', '"£"', '"\x7f"', '"\x85"', r'"\u0061"', r'"\u0000"', r'"a\\"'),
    *('""', "null", "1"),
]
AMOUNTS = [
    *("1", "0.5", "12.5000", "0", "0.0", "01", "1.", "-1", "1e2", "1.00001", "true", "{}"),
    *('"1"', '"0.50"', '"0.00"', '"1e2"', '"1,2"', '"1 "', '"1', r'"\u0031"'),
    *("9" * 14, "9" * 15, "9" * 19),
]
FIELDS: dict[str, list[str]] = {
    "source": NAMES,
    "target": NAMES,
    "amount": AMOUNTS,
    "transaction_id": NAMES,
    "currency": ['"EUR"', '"USD"', '"eur"', '"EU"', "null", '"ÄÖÜ"'],
    "occurred_at": [
        '"2026-11-23T12:00:00.123Z"', '"2026-11-23T12:00:00+01:00"', '"2026-11-23T12:00:00"',
        '"9999-12-31T23:59:59-01:00"', '"0001-01-01T00:00:00+01:00"', '"now"', "null",
    ],
    "metadata": ['{"k":"v"}', "{}", '{"k":"v","k":"w"}', '{"k":1}', "null", r'{"\u006b":"\n"}'],
    "other": ["1"],
}  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Make a body that is nearly a transaction: fields right or wrong, given twice or left out."""
    given = {name: json.dumps(value) for name, value in PLAIN.items()}
    fields = list(given.items())
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=3)):
        fields.append((name, draw(st.sampled_from(FIELDS[name]))))
        if draw(st.booleans()):
            fields = [*dict(fields).items()]
    text = ",".join(f'"{name}":{token}' for name, token in draw(st.permutations(fields)))
    return (
        draw(st.sampled_from(["{%s}", " {%s}\r", "{%s", "{%s}{}", "[%s]"]))
        .replace("%s", text)
        .encode()
    )


@given(st.lists(bodies(), min_size=1, max_size=4))
def test_together_they_come_out_as_they_do_alone(posted: list[bytes]) -> None:
    """All as `accept` makes them, byte for byte but for new ids; or none of them is taken."""
    together = accept_all(posted)

    if together is not None:
        *columns, unheard_of = together
        assert unheard_of == all(b"transaction_id" not in body for body in posted)
        for body, transaction_id, key, value in zip(posted, *columns, strict=True):
            one = accept(body)
            expected = json.loads(one.value) | {"transaction_id": transaction_id}
            assert (key, value) == (one.key, encode(expected))


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "source": st.text("aü-7", min_size=1, max_size=64),
                "target": st.text("aü-7", min_size=1, max_size=64),
                "amount": st.decimals("0.0001", "99999999999", places=4).map(str)
                | st.integers(1, 10**14 - 1),
            },
            optional={
                "transaction_id": st.text("aü-7", min_size=1, max_size=64),
                "currency": st.sampled_from(["EUR", "USD"]),
                "occurred_at": st.just("2026-11-23T12:00:00Z"),
                "metadata": st.dictionaries(st.text("kü", min_size=1), st.text("vü"), max_size=3),
            },
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_usual_is_taken_together(posted: list[dict[str, Any]]) -> None:
    """Any fields, in UTF-8, amounts as numbers or strings; new ids are version 7 and differ."""
    lines = [json.dumps(each, ensure_ascii=False).encode() for each in posted]
    together = accept_all(lines)

    assert together is not None
    assert together.keys == [each["source"].encode() for each in posted]
    assert [json.loads(value) for value in together.values] == [
        {"currency": "EUR"} | each | {"transaction_id": name, "amount": str(each["amount"])}
        for each, name in zip(posted, together.transaction_ids, strict=True)
    ]
    made = [
        name
        for each, name in zip(posted, together.transaction_ids, strict=True)
        if "transaction_id" not in each
    ]
    assert [UUID(name).version for name in made] == [7] * len(made)
    assert len(set(made)) == len(made)


@pytest.mark.parametrize(
    "odd",
    [
        b'{"source":"a","target":"b","amount":1,"amount":2}',
        b'{"source":"a","target":"b","amount":1e2}',
        b'{"source":"a","target":"b","amount":0.000}',
        b'{"source":"a\x7f","target":"b","amount":1}',
        b'{"source":"\xc2\x85","target":"b","amount":1}',
        b'{"source":"a","target":"b","amount":1,"currency":"eur"}',
        b'{"source":"a","target":"b","amount":1,"metadata":null}',
        b'{"source":"a","target":"b","amount":1,"metadata":{"k":"v","k":"w"}}',
        b'{"source":"a","target":"b","amount":1,"occurred_at":"0001-01-01T00:00:00+01:00"}',
        b"",
        b"{",
    ],
)
def test_one_that_is_not_usual_is_looked_at_alone(odd: bytes) -> None:
    """What is wrong in one of many is not passed over."""
    assert accept_all([json.dumps(PLAIN).encode(), odd]) is None
