"""Transactions from a file: CSV with a header line, or a JSON object a line.

Columns (fields) are those of a transaction; others are left aside. `transaction_id` may be
missing: then each line is a transaction of its own. Time comes from `received_at`, else from
`occurred_at` (RFC 3339, or ms since the epoch in received_at). Lines are taken in their order,
as the records of one partition.
"""

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from detector.backtest.result import Reference
from detector.backtest.trial import Case
from detector.errors import BacktestError
from wire.messages import LATEST_MS, Transaction, encode

MAX_LINE_BYTES: Final = 1_048_576
"""Longest line read; the largest transaction takes a small part of it."""
_FIELDS: Final = frozenset(Transaction.__struct_fields__)


def read(path: Path, label_field: str | None) -> Iterator[tuple[Case, int]]:
    """Give each line's case, and how many bytes of the file are read.

    Raises:
        BacktestError: names file, line and what is wrong with it.
    """
    try:
        with path.open("rb") as raw:
            for number, row in _rows(path, raw):
                try:
                    yield _case(row, number, label_field), raw.tell()
                except ValueError as error:  # msgspec's errors are ValueErrors
                    raise BacktestError(f"{path}: line {number}: {error}") from None
    except OSError as error:
        raise BacktestError(f"{path}: {error.strerror}") from None


def _rows(path: Path, raw: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(line.decode("utf-8-sig") for line in _lines(path, raw))
            for row in reader:
                given = {name: value for name, value in row.items() if value not in ("", None)}
                yield reader.line_num, given
        else:
            for number, line in enumerate(_lines(path, raw), 1):
                if line.strip():
                    yield number, _parsed(path, number, line)
    except (csv.Error, UnicodeDecodeError) as error:
        raise BacktestError(f"{path}: can't be read as .csv: {error}") from None


def _lines(path: Path, raw: IO[bytes]) -> Iterator[bytes]:
    number = 0
    while line := raw.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise BacktestError(f"{path}: line {number}: longer than {MAX_LINE_BYTES} bytes")
        yield line


def _parsed(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), parse_float=str, parse_int=str)
    except json.JSONDecodeError as error:  # it counts lines, too, but has seen this one only
        why = f"{error.msg} at character {error.colno}"
    except UnicodeDecodeError as error:
        why = str(error)
    except RecursionError:
        why = "nested too deep"
    raise BacktestError(f"{path}: line {number}: can't be read as {path.suffix or 'JSON'}: {why}")


def _case(row: Any, number: int, label_field: str | None) -> Case:
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - told with the line, as others
    fields = {name: row[name] for name in row.keys() & _FIELDS}
    fields.setdefault("transaction_id", f"line-{number}")
    transaction = msgspec.convert(fields, Transaction, strict=False)
    transaction.check()
    encode(transaction)  # an escape can name half of a character, which nothing can be written with
    return Case(transaction, _received_ms(row, transaction), _reference(row, label_field))


def _received_ms(row: dict[str, Any], transaction: Transaction) -> int:
    given = row.get("received_at")
    if given is None and transaction.occurred_at is None:
        raise ValueError("needs received_at or occurred_at")
    if str(given).isdecimal():
        milliseconds = int(str(given))
        if milliseconds > LATEST_MS:
            raise ValueError("received_at is beyond the year 9999")
        return milliseconds
    moment = transaction.occurred_at if given is None else datetime.fromisoformat(str(given))
    if moment is None or moment.tzinfo is None:
        raise ValueError("received_at needs an offset from UTC")
    return round(moment.timestamp() * 1000)


def _reference(row: dict[str, Any], label_field: str | None) -> Reference | None:
    if label_field is None:
        return None
    if label_field not in row:
        raise ValueError(f"has no {label_field}")
    reference = Reference.of_label(row[label_field])
    if reference is None:
        raise ValueError(f"{label_field} is neither fraud nor legit: {row[label_field]!r}")
    return reference
