"""The messages: what is accepted, what is refused and why, and that money stays decimal."""

import json
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wire import schemas
from wire.errors import FieldError, MessageError
from wire.messages import (
    decode_transaction,
    decode_transactions,
    decode_verdict,
    encode,
    instant,
)
from wire.posted import MAX_FIELD_ERRORS, MAX_NAME_TOLD, accept

TWICE = (b'"source":"c"',) * 2
AMOUNT_EXPECTED = "must be greater than 0, with at most 18 digits, 4 of them after the point"


def post(**changes: object) -> bytes:
    """Make a valid posted transaction, changed here and there; None leaves a field out."""
    fields = {"source": "alice", "target": "bob", "amount": "900.01", **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def with_amount(token: str) -> bytes:
    """Make a posted transaction with the amount written just so."""
    return b'{"source":"alice","target":"bob","amount":%s}' % token.encode()


def amount_of(value: bytes) -> str:
    """Read the amount of a wire form as its text."""
    text = json.loads(value)["amount"]
    assert isinstance(text, str)
    return text


def errors_of(body: bytes) -> tuple[FieldError, ...]:
    """Give what is said of a refused body."""
    with pytest.raises(MessageError) as caught:
        accept(body)
    return caught.value.errors


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("900.01", "900.01"),
        ('"900.01"', "900.01"),
        ("900.00", "900.00"),
        ("9e2", "900"),
        ("9.001E+2", "900.1"),
        ("1e-4", "0.0001"),
        ('"9\\u0030"', "90"),
        ("999999999999999999", "999999999999999999"),
        ("99999999999999.9999", "99999999999999.9999"),
        ("0.3", "0.3"),
    ],
)
def test_an_amount_keeps_its_digits(token: str, expected: str) -> None:
    """An amount is the same decimal on the wire as in the sender's JSON."""
    assert amount_of(accept(with_amount(token)).value) == expected


@pytest.mark.parametrize(
    "token",
    [
        *("0", "0.0000", "-1", "-0.01", "1e-5", "0.00001", "1e400", "1e-400", "true", "null"),
        *('"NaN"', '"Infinity"', '" 1"', '"1_0"', '"+1"', '"01"', '".5"', '"5."', '"1e2"', '""'),
        *('"\u0661"', "[1]", '{"a":1}', "9999999999999999999", "99999999999999.99999"),
    ],
)
def test_what_is_no_amount_is_refused_by_name(token: str) -> None:
    """Anything but a positive decimal within the limits is an error at /amount."""
    assert errors_of(with_amount(token)) == (FieldError("/amount", AMOUNT_EXPECTED),)


@given(st.decimals(min_value=Decimal("0.0001"), max_value=Decimal(99999999999999), places=4))
def test_every_decimal_survives_the_way(amount: Decimal) -> None:
    """Posted as a number or as a string, the detector reads the very same decimal."""
    for token in (f"{amount:f}", f'"{amount:f}"'):
        assert decode_transaction(accept(with_amount(token)).value).amount == amount


def test_its_schema_takes_an_amount_in_cents_also_where_it_is_counted_in_floats() -> None:
    """As most validators do, who divide by `multipleOf` and look whether something is left."""
    _, number = schemas.document("PostedTransaction")["properties"]["amount"]["oneOf"]
    for amount in (cents / 100 for cents in range(1, 100_000)):
        assert number["exclusiveMinimum"] < amount < number["maximum"]
        assert (amount / number.get("multipleOf", amount)).is_integer(), amount


def test_a_missing_id_becomes_a_uuid_of_version_7() -> None:
    """The gateway makes an id where the sender gave none."""
    transaction_id = accept(post()).transaction_id
    assert (len(transaction_id), transaction_id[14]) == (36, "7")


def test_given_fields_are_kept() -> None:
    """What is posted is what lies in Kafka, keyed by the source account."""
    given_fields = {
        "transaction_id": "t-1",
        "source": "alice ünïcode",
        "target": "bob",
        "amount": "1.50",
        "currency": "USD",
        "occurred_at": "2026-01-02T03:04:05+02:00",
        "metadata": {"channel": "pos"},
    }
    accepted = accept(post(**given_fields))
    assert json.loads(accepted.value) == given_fields
    assert accepted.key == "alice ünïcode".encode()


def test_every_bad_field_is_listed() -> None:
    """One refusal names all that is wrong, each by its JSON Pointer."""
    body = post(
        source=None, target="", currency="euro", amount="0", metadata={"a": 1}, **{"x/y": 1}
    )
    assert [error.pointer for error in errors_of(body)] == [
        *("/source", "/target", "/amount", "/currency", "/metadata/a", "/x~1y")
    ]


@pytest.mark.parametrize(
    ("metadata", "pointers"),
    [
        ({"a": "1", "b/c": 2, "d": "x" * 257}, ["/metadata/b~1c", "/metadata/d"]),
        ({"": "1", "x" * 65: "2"}, ["/metadata/", "/metadata/" + "x" * 64]),
        ({str(n): "x" for n in range(17)}, ["/metadata"]),
        (["a"], ["/metadata"]),
    ],
)
def test_every_bad_entry_of_the_metadata_is_listed(metadata: object, pointers: list[str]) -> None:
    """By its name, and a name by itself, of which no more is told than of a field's."""
    assert [error.pointer for error in errors_of(post(metadata=metadata))] == pointers


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *(
            (field, f"a{character}", "must have no control characters")
            for field in ("source", "target", "transaction_id")
            for character in "\x00\x1f\x7f\x9f"
        ),
        *(("currency", value, "must be three letters A to Z") for value in ("eur", "E1R", "ÄÖÜ")),
    ],
)
def test_what_the_types_do_not_check_is_refused_by_name(
    field: str, value: str, expected: str
) -> None:
    """A control character in a name, or a currency of other letters, is an error at that field."""
    assert errors_of(post(**{field: value})) == (FieldError(f"/{field}", expected),)


def test_the_list_of_errors_is_bounded() -> None:
    """A body of a thousand unknown fields gets a short answer."""
    body = json.dumps({f"x{n}": n for n in range(1000)}).encode()
    assert len(errors_of(body)) == MAX_FIELD_ERRORS


def test_what_is_told_of_an_unknown_name_is_bounded() -> None:
    """A refusal does not hold what was sent: of a long name it tells the beginning, and says so."""
    short, long = errors_of(post(**{"x" * MAX_NAME_TOLD: 1, "y" * 10_000: 1}))
    assert short == FieldError("/" + "x" * MAX_NAME_TOLD, "is not a field of a transaction")
    assert long.pointer == "/" + "y" * MAX_NAME_TOLD
    assert long.detail == (
        "is not a field of a transaction; its name goes on, 64 characters are told"
    )


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"nonsense", b"{'a':1}", b'{"amount":NaN}', b"\xff\xfe{}", b"\xef\xbb\xbf{}"),
        b'{"source":"\xff","target":"b","amount":1}',
        b'{"source":"\\ud800","target":"b","amount":1}',
        b'{"source":"a","target":"b","amount":"\xff"}',
        b'{"source":"a","target":"b","amount":01}',
        b'{"amount":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_json_is_told_apart(body: bytes) -> None:
    """A body that no JSON parser takes has no field errors."""
    assert errors_of(body) == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}{}", "not valid JSON: JSON is malformed: trailing characters"),
        (b'{"source":1,', "not valid JSON: Input data was truncated"),
        (b'{"source":"a\xff","target":"b","amount":1}', "not valid JSON: not in UTF-8"),
    ],
)
def test_what_is_no_json_is_told_why(body: bytes, expected: str) -> None:
    """Not what is wrong with its fields, or where in one of them."""
    with pytest.raises(MessageError, match=f"^{expected}"):
        accept(body)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null"])
def test_json_of_another_kind_is_an_error_of_the_whole(body: bytes) -> None:
    """A transaction is an object."""
    assert errors_of(body) == (FieldError("", "must be a JSON object"),)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_bytes_make_it_fail_otherwise(body: bytes) -> None:
    """Whatever is sent is accepted or refused; nothing else escapes."""
    for read in (accept, decode_transaction, decode_verdict):
        try:
            read(body)
        except MessageError:
            continue


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("source", "amount", "currency", "occurred_at", "metadata"), json_values
        ),
    )
)
def test_whatever_is_refused_says_why(document: dict[str, object]) -> None:
    """A JSON object is accepted, or refused with at least one named error."""
    body = json.dumps(document).encode()
    assume(b"NaN" not in body and b"Infinity" not in body)  # Python's json writes what is no JSON
    assert errors_of(body) != ()  # a required field is always missing


def test_a_verdict_comes_back_as_it_was_written() -> None:
    """Encoding and decoding a verdict gives the same verdict."""
    text = (
        b'{"transaction_id":"t-1","source":"a","target":"b","amount":"900.01","currency":"EUR",'
        b'"decision":"fraud","score":100,"reasons":[{"rule":"amount-limit","version":"1",'
        b'"detail":"amount 900.01 > 900"}],"rules_version":"v","received_at":'
        b'"2026-01-01T00:00:00.123000Z","decided_at":"2026-01-01T00:00:00.125000Z"}'
    )
    assert encode(decode_verdict(text)) == text


def test_a_record_timestamp_is_exact_to_the_millisecond() -> None:
    """No float is on the way from milliseconds to a datetime."""
    assert instant(1_767_225_600_123).isoformat() == "2026-01-01T00:00:00.123000+00:00"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"source":"a","target":"b","amount":1,"amount":1000}', "/amount"),
        (b'{"source":"a","target":"b","amount":"1","amount":1}', "/amount"),
        (b'{"source":"a","target":"b","amount":1,"s\\u006furce":"c"}', "/source"),
        (b'{"transaction_id":null,"amount":1,"source":"a","target":"b","amount":2}', "/amount"),
        (b'{"source":"a","target":"b","amount":1,"metadata":{"x":"1","x":"2"}}', "/metadata"),
        (b'{"source":"a","target":"b","amount":1,"metadata":{},"metadata":null}', "/metadata"),
        (b'{"source":"a","target":"b","amount":1,"metadata":{%b,%b}}' % TWICE, "/metadata"),
        (b'{"source":"a","target":"b","amount":%b,"amount":1}' % (b"1" * 5_000), "/amount"),
        (b'{"source":"a","target":"b","amount":1e%b,"amount":1}' % (b"9" * 5_000), "/amount"),
        (b'{"source":1,"source":"a","target":"b","amount":1}', "/source"),
        (b'{"source":"a","target":"b","amount":1,"metadata":{"x":1,"x":"2"}}', "/metadata"),
    ],
)  # fmt: skip
def test_a_field_given_twice_is_refused(body: bytes, pointer: str) -> None:
    """A repeated name is an error, however it is written: readers differ in which one counts."""
    assert errors_of(body) == (FieldError(pointer, "is given more than once"),)


def test_what_is_given_first_may_be_no_json() -> None:
    """It counts for nothing, and is looked at only then: not UTF-8, or nested nearly too deep."""
    for first in (b'"\xff"', *(b"[" * depth + b"]" * depth for depth in range(900, 1_000))):
        body = b'{"source":"a","target":"b","amount":%b,"amount":1}' % first
        with pytest.raises(MessageError, match=r"^not (valid JSON|a valid transaction)"):
            accept(body)


@given(
    st.fixed_dictionaries(
        {"source": st.just("a"), "target": st.just("b"), "amount": st.sampled_from([1, "1"])},
        optional={
            "currency": st.just("EUR"),
            "transaction_id": st.sampled_from(["t", 'quo"ted', "back\\slash", None]),
            "occurred_at": st.sampled_from(["2026-11-23T12:00:00+01:00", None]),
            "metadata": st.one_of(st.none(), st.dictionaries(st.sampled_from('a:"'), st.text("x"))),
        },
    ),
    st.sampled_from([None, 1]),
)
def test_fields_given_once_are_never_taken_for_repeated(
    fields: dict[str, object], indent: int | None
) -> None:
    """Quotes, escapes, nulls and white space do not look like a repeated field."""
    assert accept(json.dumps(fields, indent=indent).encode()).key == b"a"


@pytest.mark.parametrize("field", ["source", "target", "currency", "transaction_id"])
def test_a_final_line_feed_is_a_control_character(field: str) -> None:
    """The patterns hold to the very end of the text."""
    value = {"currency": "EUR"}.get(field, "x") + "\n"
    assert [error.pointer for error in errors_of(post(**{field: value}))] == [f"/{field}"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_moment_that_utc_can_not_hold_is_refused(moment: str) -> None:
    """Whoever reads a transaction can turn its time into UTC."""
    assert [error.pointer for error in errors_of(post(occurred_at=moment))] == ["/occurred_at"]


written = st.builds(
    lambda name, amount, currency: (
        b'{"transaction_id":"%b","source":"a","target":"b","amount":"%b","currency":"%b"}'
        % (name, amount, currency)
    ),
    st.sampled_from([b"t", "é".encode(), b"\\u00e9", b"\\u0007", b"\x7f", b"\\n", b""]),
    st.sampled_from([b"1", b"0.5", b"900.01", b"1e3", b"0", b"-1", b"1.00001", b"9" * 19]),
    st.sampled_from([b"EUR", b"JPY", b"eur", b"EURO"]),
)


@given(st.lists(written | st.sampled_from([b"", b"{}", b"\xff", b"1\n2"]), max_size=6))
def test_reading_many_is_reading_each(values):
    """All are read as each alone, or none if one of them can't be."""
    try:
        expected = [decode_transaction(value) for value in values]
    except MessageError:
        with pytest.raises(MessageError):
            decode_transactions(values)
    else:
        assert expected == decode_transactions(values)
