"""The messages as they lie in Kafka: a transaction, and the verdict on it.

Amounts are decimal from end to end. On the wire they are always a string in plain notation
("900.01"), so that no consumer's JSON parser makes a float of them.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from wire.errors import MessageError

DEFAULT_CURRENCY: Final = "EUR"
MAX_AMOUNT_DIGITS: Final = 18
MAX_METADATA_ENTRIES: Final = 16
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
AMOUNT_EXPECTED = (
    f"must be greater than 0, with at most {MAX_AMOUNT_DIGITS} digits, 4 of them after the point"
)

# The patterns are for the schemas: matching them would take most of the decoding, so `is_name` and
# `is_currency` check what the types do not.
Identifier = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        description="1 to 64 characters, no control characters",
        extra_json_schema={"pattern": _NO_CONTROLS},
    ),
]
Currency = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=3,
        description="ISO 4217 letters",
        extra_json_schema={"pattern": _LETTERS},
    ),
]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with offset")]
MetadataName = Annotated[str, Meta(min_length=1, max_length=64)]
MetadataText = Annotated[str, Meta(max_length=256)]
Metadata = Annotated[
    dict[MetadataName, MetadataText],
    Meta(max_length=MAX_METADATA_ENTRIES, description="flat map of strings"),
]
Decision = Literal["legit", "fraud"]


class Transaction(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A transaction as it lies in the transactions topic."""

    transaction_id: Identifier
    source: Identifier
    target: Identifier
    amount: Decimal
    # A factory's value is written, where a default would be left out.
    currency: Currency = msgspec.field(default_factory=lambda: DEFAULT_CURRENCY)
    occurred_at: Instant | None = None
    metadata: Metadata | None = None

    def check(self, *, names: bool = True) -> None:
        """Check what the types do not.

        Args:
            names: False if the ids and accounts are known to have no control characters.

        Raises:
            ValueError: a field is not as it must be; the text names it.
        """
        if not is_amount(str(self.amount)):
            raise ValueError(f"`amount` {AMOUNT_EXPECTED}")
        if self.currency != DEFAULT_CURRENCY and not is_currency(self.currency):
            raise ValueError("`currency` must be three letters A to Z")
        if names:
            for name in (self.transaction_id, self.source, self.target):
                if not is_name(name):
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

    transaction_id: Identifier
    source: Identifier
    target: Identifier
    amount: Decimal
    currency: Currency
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


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# As the gateway writes nearly all of them, and short enough to be within the digits for certain.
_USUAL = r"[1-9][0-9]{0,13}(?:\.[0-9]{1,4})?"
_usual_amount = re.compile(_USUAL).fullmatch
_usual_amounts = re.compile(rf"(?:{_USUAL}\n)*(?:{_USUAL})").fullmatch
_transaction = msgspec.json.Decoder(Transaction)
_verdict = msgspec.json.Decoder(Verdict)
_encoder = msgspec.json.Encoder(decimal_format="string")


def decode_transaction(value: bytes) -> Transaction:
    """Read a record of the transactions topic.

    Raises:
        MessageError: not JSON, or not a transaction.
    """
    try:
        transaction = _transaction.decode(value)
        # ASCII without escapes: of all control characters, JSON lets only DEL into a string.
        names = not value.isascii() or _BACKSLASH in value or _DELETE in value
        if (
            names
            or transaction.currency != DEFAULT_CURRENCY
            or _usual_amount(str(transaction.amount)) is None
        ):
            transaction.check(names=names)
    except (ValueError, RecursionError) as error:
        raise MessageError(str(error)) from None
    return transaction


def decode_transactions(values: Sequence[bytes]) -> list[Transaction]:
    """Read records of the transactions topic, all or none: at half of what each alone costs.

    Raises:
        MessageError: one of them is not JSON, or not a transaction.
    """
    decode = _transaction.decode
    try:
        transactions = [decode(value) for value in values]
        # What is looked for byte by byte, or between line ends, is looked for in all at once.
        text = b"".join(values)
        names = not text.isascii() or _BACKSLASH in text or _DELETE in text
        amounts = "\n".join([str(each.amount) for each in transactions])
        currencies = {each.currency for each in transactions}
        if names or not all(map(is_currency, currencies)) or _usual_amounts(amounts) is None:
            for transaction in transactions:
                transaction.check(names=names)
    except (ValueError, RecursionError) as error:
        raise MessageError(str(error)) from None
    return transactions


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


def encode_lines(messages: Sequence[Any]) -> bytes:
    """Write messages, each as JSON on a line of its own."""
    return _encoder.encode_lines(messages)


def instant(milliseconds: int) -> datetime:
    """Make a UTC datetime of a Kafka record timestamp (milliseconds since the Unix epoch)."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def is_name(text: str) -> bool:
    """Tell whether an id or account is free of control characters."""
    # No control character is printable, and almost every name is.
    return text.isprintable() or _CONTROL.search(text) is None


def is_currency(text: str) -> bool:
    """Tell whether a currency is three capital letters."""
    return _CURRENCY.fullmatch(text) is not None


def is_amount(text: str) -> bool:
    """Tell whether a decimal in plain notation is positive and within the limits."""
    if len(text) > MAX_AMOUNT_DIGITS and len(text) - ("." in text) > MAX_AMOUNT_DIGITS:
        return False
    return _AMOUNT.fullmatch(text) is not None
