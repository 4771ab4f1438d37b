"""A transaction as it is posted: validated, and put into the wire form.

The amount may be a JSON number or string; its digits are read as text, never through a binary
float.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType
from uuid_utils import uuid7

from wire.errors import FieldError, MessageError
from wire.messages import (
    AMOUNT_EXPECTED,
    DEFAULT_CURRENCY,
    MAX_AMOUNT_DIGITS,
    MAX_METADATA_ENTRIES,
    Currency,
    Identifier,
    Instant,
    Metadata,
    MetadataName,
    MetadataText,
    encode,
    is_amount,
    is_currency,
    is_name,
)

MAX_FIELD_ERRORS: Final = 32
"""Most errors listed for one refused transaction."""
MAX_NAME_TOLD: Final = 64
"""Most characters that are told of an unknown field's name: the sender's may have any length."""
MAX_TRANSACTION_BYTES: Final = 16_384
"""Largest transaction accepted, in bytes of JSON as sent."""

_NAME_EXPECTED: Final = "must have no control characters"
_CURRENCY_EXPECTED: Final = "must be three letters A to Z"
# An amount as nearly all are written, and short enough to be within the digits for certain.
_usual_amount: Final = re.compile(
    rb'("?)((?=[0-9.]*[1-9])(?:0|[1-9][0-9]{0,13})(?:\.[0-9]{1,4})?)\1'
).fullmatch


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


class Accepted(Struct, frozen=True):
    """A posted transaction that passed validation, ready to be produced."""

    transaction_id: str
    key: bytes
    """The record's key: the source account, UTF-8."""
    value: bytes
    """The record's value: the transaction's wire form."""


_posted = msgspec.json.Decoder(Posted)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_metadata_text = msgspec.json.Decoder(MetadataText)
# Made once: to make them takes ten times as long as to explain a refusal with them.
_fields: Final = {
    field.name: (f"/{field.name}", field.required, msgspec.json.Decoder(field.type))
    for field in msgspec.structs.fields(Posted)
}


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
        usual = _usual_amount(token)
        amount = usual[2].decode() if usual else _canonical_amount(token)
        _check_text(posted)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise _explain(body, error) from None
    if b"\\" in body or body.count(b'"') != _quotes(posted, token):
        _refuse_repeated(body)
    occurred_at = posted.occurred_at or None
    if occurred_at is not None and occurred_at.year in (MINYEAR, MAXYEAR):
        _refuse_beyond_utc(occurred_at)
    source = posted.source
    transaction_id = posted.transaction_id or str(uuid7())
    outgoing = _Outgoing(
        transaction_id,
        source,
        posted.target,
        amount,
        posted.currency or DEFAULT_CURRENCY,
        occurred_at,
        None if posted.metadata is UNSET else posted.metadata,
    )
    return Accepted(transaction_id, source.encode(), encode(outgoing))


def _check_text(posted: Posted) -> None:
    """Check what the types do not.

    Raises:
        ValueError: a control character, or a currency of other than capital letters.
    """
    if not (
        is_name(posted.source)
        and is_name(posted.target)
        and (not posted.transaction_id or is_name(posted.transaction_id))
    ):
        raise ValueError(_NAME_EXPECTED)
    if posted.currency and posted.currency != DEFAULT_CURRENCY and not is_currency(posted.currency):
        raise ValueError(_CURRENCY_EXPECTED)


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
    if not is_amount(text):
        raise ValueError(AMOUNT_EXPECTED)
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
    try:  # what was given first may be anything yet: only what counts has been looked at
        names = json.loads(body, object_pairs_hook=_repeated, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise _no_json(error) from None
    if names:
        errors = [FieldError(_pointer(name), "is given more than once") for name in sorted(names)]
        raise MessageError("not a valid transaction", tuple(errors[:MAX_FIELD_ERRORS]))


def _repeated(pairs: list[tuple[str, Any]]) -> set[str]:
    """Give the names that an object has more than once, or whose values have such names."""
    times = Counter(name for name, _ in pairs)
    return {name for name, value in pairs if times[name] > 1 or (value and type(value) is set)}


def _refuse_beyond_utc(moment: datetime) -> None:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        error = FieldError("/occurred_at", "must lie in the years 1 to 9999 in UTC")
        raise MessageError("not a valid transaction", (error,)) from None


def _explain(body: bytes, error: Exception) -> MessageError:
    """Say everything that is wrong with a refused body, field by field."""
    try:
        document = _raw_fields.decode(body)
        found = tuple(islice(_field_errors(document), MAX_FIELD_ERRORS))
    except msgspec.ValidationError:
        return MessageError("not a transaction", (FieldError("", "must be a JSON object"),))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as found_later:
        # What was found first may be a wrong field, before the place where it ceases to be JSON.
        return _no_json(error if type(error) is msgspec.DecodeError else found_later)
    if not found:  # what is wrong was given first, and again, all right, behind it
        _refuse_repeated(body)
    return MessageError("not a valid transaction", found or (FieldError("", str(error)),))


def _no_json(error: Exception) -> MessageError:
    if isinstance(error, RecursionError):
        return MessageError("not valid JSON: nested too deeply")
    if isinstance(error, UnicodeDecodeError):  # where, it says of a part only
        return MessageError("not valid JSON: not in UTF-8")
    return MessageError(f"not valid JSON: {error}")


def _field_errors(document: dict[str, msgspec.Raw]) -> Iterator[FieldError]:
    for name, (pointer, required, decoder) in _fields.items():
        token = document.get(name)
        if token is None:
            if required:
                yield FieldError(pointer, "is required")
        elif name == "amount":
            yield from _amount_errors(token)
        elif name == "metadata" and bytes(token).startswith(b"{"):
            yield from _metadata_errors(_raw_fields.decode(token))
        else:
            yield from _value_errors(pointer, token, decoder)
    for name in document:
        if name not in _fields:
            yield _named("", name, "is not a field of a transaction")


def _named(within: str, name: str, detail: str) -> FieldError:
    """Tell of something whose name is the sender's."""
    if len(name) > MAX_NAME_TOLD:
        name = name[:MAX_NAME_TOLD]
        detail += f"; its name goes on, {MAX_NAME_TOLD} characters are told"
    return FieldError(within + _pointer(name), detail)


def _amount_errors(token: msgspec.Raw) -> Iterator[FieldError]:
    try:
        _canonical_amount(bytes(token))
    except UnicodeDecodeError:  # no JSON at all, rather than a bad amount
        raise
    except ValueError:
        yield FieldError("/amount", AMOUNT_EXPECTED)


def _metadata_errors(entries: dict[str, msgspec.Raw]) -> Iterator[FieldError]:
    if len(entries) > MAX_METADATA_ENTRIES:
        yield FieldError("/metadata", f"must have at most {MAX_METADATA_ENTRIES} entries")
    for name, value in entries.items():
        try:
            msgspec.convert(name, MetadataName)
        except msgspec.ValidationError as error:
            yield _named("/metadata", name, f"its name: {error}")
        try:
            _metadata_text.decode(value)
        except msgspec.ValidationError as error:
            yield _named("/metadata", name, str(error))


def _value_errors(
    pointer: str, token: msgspec.Raw, decoder: msgspec.json.Decoder[Any]
) -> Iterator[FieldError]:
    try:
        value = decoder.decode(token)
    except msgspec.ValidationError as error:
        yield FieldError(pointer, str(error))
    else:
        if not isinstance(value, str):
            return
        if pointer == "/currency":
            if not is_currency(value):
                yield FieldError(pointer, _CURRENCY_EXPECTED)
        elif not is_name(value):
            yield FieldError(pointer, _NAME_EXPECTED)


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
