"""The messages: a transaction as it is posted and as it lies in Kafka, and the verdict on it.

Amounts are decimal from end to end. On the way in they may be a JSON number or string; the
digits are read as text, never through a binary float. On the wire they are always a string in
plain notation ("900.01"), so that no consumer's JSON parser makes a float of them either.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from uuid_utils import uuid7

from wire.errors import FieldError, MessageError

DEFAULT_CURRENCY: Final = "EUR"
MAX_AMOUNT_DIGITS: Final = 18
MAX_METADATA_ENTRIES: Final = 16
MAX_FIELD_ERRORS: Final = 32
"""Most errors listed for one refused transaction."""
MAX_TRANSACTION_BYTES: Final = 16_384
"""Largest transaction accepted, in bytes of JSON as sent."""
EARLIEST_MS: Final = -62_135_596_800_000
"""First timestamp that `instant` takes: the beginning of the year 1, UTC."""
LATEST_MS: Final = 253_402_300_799_999
"""Last timestamp that `instant` takes: the end of the year 9999, UTC."""

# Unicode category Cc: C0 controls, DEL and C1 controls.
# Python's `$` also matches before a final line feed; that of ECMA 262 (and JSON Schema) does not.
_END = r"$(?!\n)"
_NO_CONTROLS = r"^[^\x00-\x1f\x7f-\x9f]*" + _END
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LETTERS = r"^[A-Z]{3}" + _END
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_AMOUNT = re.compile(r"(?=[\d.]*[1-9])(?:0|[1-9]\d{0,17})(?:\.\d{1,4})?", re.ASCII)
_BACKSLASH, _DELETE = b"\\\x7f"
_AMOUNT_EXPECTED = (
    f"must be greater than 0, with at most {MAX_AMOUNT_DIGITS} digits, 4 of them after the point"
)

Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=_NO_CONTROLS,
        description="1 to 64 characters, no control characters",
    ),
]
# As Identifier, for what comes from Kafka: matching the pattern would take half of the decoding.
_KnownIdentifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="1 to 64 characters, no control characters",
        extra_json_schema={"pattern": _NO_CONTROLS},
    ),
]
Currency = Annotated[str, Meta(pattern=_LETTERS, description="ISO 4217 letters")]
_KnownCurrency = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=3,
        description="ISO 4217 letters",
        extra_json_schema={"pattern": _LETTERS},
    ),
]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with offset")]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(min_length=1, max_length=64)],
        Annotated[str, Meta(max_length=256)],
    ],
    Meta(max_length=MAX_METADATA_ENTRIES, description="flat map of strings"),
]
Decision = Literal["legit", "fraud"]


class Posted(Struct, forbid_unknown_fields=True):
    """A transaction as it is posted: the amount is kept as the sender's digits."""

    source: Identifier
    target: Identifier
    amount: msgspec.Raw
    currency: Currency | UnsetType = UNSET
    transaction_id: Identifier | UnsetType | None = UNSET
    occurred_at: Instant | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET


class _Outgoing(Struct, omit_defaults=True):
    """The wire form, written in the order of Transaction's fields."""

    transaction_id: str
    source: str
    target: str
    amount: str
    currency: str
    occurred_at: datetime | None = None
    metadata: dict[str, str] | None = None


class Transaction(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A transaction as it lies in the transactions topic."""

    transaction_id: _KnownIdentifier
    source: _KnownIdentifier
    target: _KnownIdentifier
    amount: Decimal
    # A factory's value is written, where a default would be left out.
    currency: _KnownCurrency = msgspec.field(default_factory=lambda: DEFAULT_CURRENCY)
    occurred_at: Instant | None = None
    metadata: Metadata | None = None

    def check(self, *, names: bool = True) -> None:
        """Check what the types do not.

        Args:
            names: False if the ids and accounts are known to have no control characters.

        Raises:
            ValueError: a field is not as it must be; the text names it.
        """
        if not _is_amount(str(self.amount)):
            raise ValueError(f"`amount` {_AMOUNT_EXPECTED}")
        if self.currency != DEFAULT_CURRENCY and _CURRENCY.fullmatch(self.currency) is None:
            raise ValueError("`currency` must be three letters A to Z")
        if names:
            for name in (self.transaction_id, self.source, self.target):
                # No control character is printable, and almost every name is.
                if not name.isprintable() and _CONTROL.search(name):
                    raise ValueError("account and transaction ids have no control characters")


class Reason(Struct, frozen=True, omit_defaults=True):
    """One rule that spoke on a transaction."""

    rule: str
    version: str
    detail: str
    """The numbers behind it, in a sentence: "amount 900.01 > 900"."""
    shadow: bool = False
    """True for a rule on trial: recorded, never counted."""


class Verdict(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decision on one transaction: its fields, and what was decided and why."""

    transaction_id: _KnownIdentifier
    source: _KnownIdentifier
    target: _KnownIdentifier
    amount: Decimal
    currency: _KnownCurrency
    occurred_at: Instant | None = None
    metadata: Metadata | None = None
    decision: Decision
    score: Annotated[int, Meta(ge=0, le=100)]
    reasons: tuple[Reason, ...]
    rules_version: str
    received_at: Instant
    """When Kafka's record of the transaction was made (its timestamp, UTC)."""
    decided_at: Instant
    """When the detector decided (its clock, UTC)."""


class Accepted(Struct, frozen=True):
    """A posted transaction that passed validation, ready to be produced."""

    transaction_id: str
    key: bytes
    """The record's key: the source account, UTF-8."""
    value: bytes
    """The record's value: the transaction's wire form."""


_posted = msgspec.json.Decoder(Posted)
_transaction = msgspec.json.Decoder(Transaction)
_verdict = msgspec.json.Decoder(Verdict)
_encoder = msgspec.json.Encoder(decimal_format="string")


def accept(body: bytes | memoryview) -> Accepted:
    """Validate one posted JSON object and put it into the wire form.

    A missing transaction_id becomes a UUIDv7 (RFC 9562). A field given twice is an error: programs
    differ in which one counts (RFC 8259, section 4), and an amount must not depend on that.

    Raises:
        MessageError: not JSON, or not a transaction; `errors` then lists every bad field.
    """
    body = bytes(body)
    try:
        posted = _posted.decode(body)
        token = bytes(posted.amount)
        amount = _canonical_amount(token)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise _explain(body, error) from None
    if b"\\" in body or body.count(b'"') != _quotes(posted, token):
        _refuse_repeated(body)
    occurred_at = posted.occurred_at or None
    if occurred_at is not None and occurred_at.year in (MINYEAR, MAXYEAR):
        _refuse_beyond_utc(occurred_at)
    transaction_id = posted.transaction_id or str(uuid7())
    outgoing = _Outgoing(
        transaction_id,
        posted.source,
        posted.target,
        amount,
        posted.currency or DEFAULT_CURRENCY,
        occurred_at,
        None if posted.metadata is UNSET else posted.metadata,
    )
    return Accepted(transaction_id, posted.source.encode(), _encoder.encode(outgoing))


def decode_transaction(value: bytes) -> Transaction:
    """Read a record of the transactions topic.

    Raises:
        MessageError: not JSON, or not a transaction.
    """
    try:
        transaction = _transaction.decode(value)
        # ASCII without escapes: of all control characters, JSON lets only DEL into a string.
        transaction.check(names=not value.isascii() or _BACKSLASH in value or _DELETE in value)
    except (ValueError, RecursionError) as error:
        raise MessageError(str(error)) from None
    return transaction


def decode_verdict(value: bytes) -> Verdict:
    """Read a record of a verdict topic.

    Raises:
        MessageError: not JSON, or not a verdict.
    """
    try:
        return _verdict.decode(value)
    except (ValueError, RecursionError) as error:
        raise MessageError(str(error)) from None


def encode(message: Any) -> bytes:
    """Write a message, or a part of one, as JSON on one line, UTF-8, amounts as strings."""
    return _encoder.encode(message)


def instant(milliseconds: int) -> datetime:
    """Make a UTC datetime of a Kafka record timestamp (milliseconds since the Unix epoch)."""
    # A float of seconds is good to a microsecond until the year 2242, and rounded to one here.
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _is_amount(text: str) -> bool:
    if len(text) > MAX_AMOUNT_DIGITS and len(text) - ("." in text) > MAX_AMOUNT_DIGITS:
        return False
    return _AMOUNT.fullmatch(text) is not None


def _canonical_amount(token: bytes) -> str:
    """Turn a raw JSON token into plain decimal digits.

    Raises:
        ValueError: not a positive decimal within the limits.
    """
    text = token.decode()
    if text.startswith('"'):
        text = msgspec.json.decode(token, type=str) if "\\" in text else text[1:-1]
    elif ("e" in text or "E" in text) and len(text) <= 2 * MAX_AMOUNT_DIGITS:
        text = _plain(text)
    if not _is_amount(text):
        raise ValueError(_AMOUNT_EXPECTED)
    return text


def _plain(number: str) -> str:
    """Write a JSON number that has an exponent without it, unless that would be absurdly long."""
    try:
        value = Decimal(number)
    except InvalidOperation:  # `true` and `false` come here too
        return number
    return format(value, "f") if abs(value.adjusted()) <= MAX_AMOUNT_DIGITS else number


def _quotes(posted: Posted, amount: bytes) -> int:
    """Count the quotes that the fields need when each is given once and nothing is escaped."""
    quotes = 12 if amount.startswith(b'"') else 10
    for value in (posted.currency, posted.transaction_id, posted.occurred_at):
        if value is not UNSET:
            quotes += 2 if value is None else 4
    if posted.metadata is not UNSET:
        quotes += 2 if posted.metadata is None else 2 + 4 * len(posted.metadata)
    return quotes


def _refuse_repeated(body: bytes) -> None:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.extend(name for name, times in Counter(n for n, _ in pairs).items() if times > 1)
        return dict(pairs)

    # Anything inside metadata is told as metadata itself: the hook does not know where it is.
    document = json.loads(body, object_pairs_hook=unique)
    if repeated:
        pointers = {_pointer(name if name in document else "metadata") for name in repeated}
        errors = [FieldError(pointer, "is given more than once") for pointer in sorted(pointers)]
        raise MessageError("not a valid transaction", tuple(errors[:MAX_FIELD_ERRORS]))


def _refuse_beyond_utc(moment: datetime) -> None:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        error = FieldError("/occurred_at", "must lie in the years 1 to 9999 in UTC")
        raise MessageError("not a valid transaction", (error,)) from None


def _explain(body: bytes, error: Exception) -> MessageError:
    """Say everything that is wrong with a refused body, field by field."""
    try:
        document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        found = tuple(islice(_field_errors(document), MAX_FIELD_ERRORS))
    except msgspec.ValidationError:
        return MessageError("not a transaction", (FieldError("", "must be a JSON object"),))
    except RecursionError:
        return MessageError("not valid JSON: nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return MessageError(f"not valid JSON: {error}")
    return MessageError("not a valid transaction", found or (FieldError("", str(error)),))


def _field_errors(document: dict[str, msgspec.Raw]) -> Iterator[FieldError]:
    fields = {field.name: field for field in msgspec.structs.fields(Posted)}
    for name, field in fields.items():
        if name not in document:
            if field.required:
                yield FieldError(f"/{name}", "is required")
        elif name == "amount":
            yield from _amount_errors(document[name])
        else:
            yield from _value_errors(f"/{name}", document[name], field.type)
    for name in document.keys() - fields.keys():
        yield FieldError(_pointer(name), "is not a field of a transaction")


def _amount_errors(token: msgspec.Raw) -> Iterator[FieldError]:
    try:
        _canonical_amount(bytes(token))
    except UnicodeDecodeError:  # no JSON at all, rather than a bad amount
        raise
    except ValueError:
        yield FieldError("/amount", _AMOUNT_EXPECTED)


def _value_errors(pointer: str, token: msgspec.Raw, kind: Any) -> Iterator[FieldError]:
    try:
        msgspec.json.decode(token, type=kind)
    except msgspec.ValidationError as error:
        yield FieldError(pointer, str(error))


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
