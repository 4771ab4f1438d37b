"""Transactions as they are posted, in bulk: validated together if they are as nearly all are.

To validate them one after the other costs three times as much. Whatever is unusual in any of them,
be it right or wrong, is left to `wire.posted.accept`, which looks closer.
"""

import re
from collections.abc import Sequence
from datetime import MAXYEAR, MINYEAR
from typing import Final, NamedTuple, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from wire.ids import uuid7s
from wire.messages import (
    DEFAULT_CURRENCY,
    Currency,
    Identifier,
    Instant,
    Metadata,
    encode_lines,
    is_currency,
)

_BACKSLASH, _DELETE, _C1 = b"\\", b"\x7f", b"\xc2"
"""What a control character that JSON lets into a string begins with, and little else does."""
_AMOUNT: Final = rb"(?:[1-9][0-9]{0,13}(?:\.[0-9]{1,4})?|0\.(?!0+[\",])[0-9]{1,4})"
# Amounts with a comma after each, all of them short enough to be within the digits for certain.
# In an atomic group, not by `*+`, which Python before 3.11.5 gets wrong (its issue 106052).
_are_amounts: Final = re.compile(rb'(?>(?:"%b",|%b,)*)' % (_AMOUNT, _AMOUNT)).fullmatch
_QUOTE: Final = b'"'


class Bulk(NamedTuple):
    """Posted transactions that passed validation, ready to be produced: a list for each field."""

    transaction_ids: list[str]
    keys: list[bytes]
    """The records' keys: the source accounts, UTF-8."""
    values: list[bytes]
    """The records' values: the transactions' wire form."""
    unheard_of: bool
    """Whether all transaction_ids were made here, just now."""


class _Record(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A posted transaction that becomes its own wire form, written in the order of its fields."""

    transaction_id: Identifier | UnsetType = UNSET
    source: Identifier
    target: Identifier
    amount: Raw
    currency: Currency | UnsetType = UNSET
    occurred_at: Instant | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET


_decode: Final = msgspec.json.Decoder(_Record).decode


def accept_all(bodies: Sequence[bytes]) -> Bulk | None:
    """Validate posted JSON objects and put them into the wire form, as `accept` does with each.

    None if any of them is not a transaction, or is not as nearly all are: has an escape, a null, an
    amount with an exponent ...
    """
    posted = b"".join(bodies)
    if _BACKSLASH in posted or _DELETE in posted or _C1 in posted:
        return None
    try:
        records = list(map(_decode, bodies))
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    amounts = b",".join([record.amount for record in records]) + b","
    if not (_are_amounts(amounts) and _are_usual(records)):
        return None
    unquoted = 2 * len(records) - amounts.count(_QUOTE)
    if unquoted:
        _quote_amounts(records)
    made = _add_ids(records)
    added = unquoted + 4 * made + 4 * _add_currencies(records)
    lines = encode_lines(records)
    # As many quotes as fields given once need: none of them was given twice (see `accept`).
    if lines.count(_QUOTE) != posted.count(_QUOTE) + added:
        return None
    transaction_ids = cast("list[str]", [record.transaction_id for record in records])
    keys = [record.source.encode() for record in records]
    return Bulk(transaction_ids, keys, lines.splitlines(), made == len(records))


def _are_usual(records: list[_Record]) -> bool:
    """Check what the types do not, but for the amounts."""
    currencies = {record.currency for record in records if record.currency}
    years = {record.occurred_at.year for record in records if record.occurred_at}
    return all(map(is_currency, currencies - {DEFAULT_CURRENCY})) and years.isdisjoint(
        (MINYEAR, MAXYEAR)
    )


def _quote_amounts(records: list[_Record]) -> None:
    for record in records:
        if bytes(record.amount)[:1] != _QUOTE:
            record.amount = Raw(b'"%b"' % record.amount)


def _add_ids(records: list[_Record]) -> int:
    """Give those without a transaction_id one; tell how many."""
    nameless = [record for record in records if not record.transaction_id]
    for record, transaction_id in zip(nameless, uuid7s(len(nameless)), strict=True):
        record.transaction_id = transaction_id
    return len(nameless)


def _add_currencies(records: list[_Record]) -> int:
    """Give those without a currency the default one; tell how many."""
    without = [record for record in records if not record.currency]
    for record in without:
        record.currency = DEFAULT_CURRENCY
    return len(without)
