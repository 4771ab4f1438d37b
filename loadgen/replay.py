"""Sending what a file holds: CSV or JSONL, of a known data set or with named columns."""

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from loadgen.errors import ReplayError
from loadgen.measure import Tally
from loadgen.payments import FRAUD, ORDINARY, Payment, Shot
from wire.errors import MessageError
from wire.messages import EARLIEST_MS, LATEST_MS, Transaction, decode_transaction, encode

log = structlog.get_logger(__name__)
LOGGED_LINES: Final = 10
"""Unreadable lines that get a log line of their own; all are counted."""
SECONDS_PER_STEP: Final = 3600.0
"""PaySim: one step is an hour of the simulation."""
_WRITTEN: Final = (str, int, float)
"""What a name or a number may be written as in JSON."""
_NOT_FRAUD: Final = frozenset({"", "0", "0.0", "false", "no", ORDINARY, "legit"})


class Columns(NamedTuple):
    """Which column means what; None where a file has no such column."""

    source: str
    target: str
    amount: str
    currency: str | None = None
    time: str | None = None
    """Seconds (since any moment), or RFC 3339; UTC where no offset is given."""
    label: str | None = None
    unit: float = 1.0
    """Seconds in one unit of a numeric time."""


PAYSIM: Final = Columns(
    "nameOrig", "nameDest", "amount", None, "step", "isFraud", unit=SECONDS_PER_STEP
)
"""E. A. Lopez-Rojas et al., PaySim (2016): mobile money."""
SPARKOV: Final = Columns("cc_num", "merchant", "amt", None, "unix_time", "is_fraud")
"""B. Harris, Sparkov Data Generation: credit cards."""
OURS: Final = Columns("source", "target", "amount", "currency", "occurred_at", "label")
"""A transaction's own field names; the label is an extra, and is not sent."""
KNOWN: Final = (PAYSIM, SPARKOV, OURS)


class Replay:
    """The transactions of a file, read as they are needed."""

    def __init__(self, path: Path, columns: Mapping[str, str] | None, tally: Tally) -> None:
        """Open a file.

        Args:
            path: CSV with a header line, or JSONL if the name ends in .jsonl or .ndjson.
            columns: meaning to column, for files whose columns are not known by name.
            tally: lines that are no transaction are counted here.

        Raises:
            ReplayError: it can't be read, or its columns are not known.
        """
        self._path = path
        self._tally = tally
        first = next(self._rows(), None)
        if first is None:
            raise ReplayError(f"{path}: there is nothing in it to send")
        self._columns = _named(columns, path) if columns else _known(first[1], path)
        missing = _required(self._columns) - first[1].keys()
        if missing:
            raise ReplayError(f"{path}: no column {', '.join(sorted(missing))}")

    def shots(self, due: Iterator[float], *, batch: int) -> Iterator[Shot]:
        """Pair due times with what the file holds, to its end."""
        payments = (payment for _, payment in self._payments())
        for seconds in due:
            together = list(islice(payments, batch))
            if not together:
                return
            yield Shot(seconds, together)

    def shots_at_own_pace(self, speed: float, *, batch: int) -> Iterator[Shot]:
        """Give what the file holds at the times it holds, sped up; times never go back."""
        payments = self._payments()
        begin: float | None = None
        latest = 0.0
        while together := list(islice(payments, batch)):
            at = together[-1][0]
            begin = together[0][0] if begin is None else begin
            latest = max(latest, (at - begin) / speed)
            yield Shot(latest, [payment for _, payment in together])

    def _payments(self) -> Iterator[tuple[float, Payment]]:
        for number, row in self._rows():
            try:
                yield _time(row, self._columns), _payment(row, self._columns)
            except (ValueError, KeyError, InvalidOperation, MessageError) as error:
                self._tally.unreadable += 1
                if self._tally.unreadable <= LOGGED_LINES:
                    log.warning(
                        "line is no transaction",
                        file=str(self._path),
                        line=number,
                        error=str(error),
                    )

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        try:
            # Spreadsheets, and much that comes from Windows, begin UTF-8 with a byte order mark.
            # What is no UTF-8 spoils its line, no more: nothing can be made of it there.
            with self._path.open(
                encoding="utf-8-sig", errors="surrogateescape", newline=""
            ) as file:
                if self._path.suffix.lower() in (".jsonl", ".ndjson"):
                    for number, line in enumerate(file, 1):
                        if line.strip():
                            yield number, _object(line)
                else:
                    yield from _lines(csv.DictReader(file))
        except OSError as error:
            raise ReplayError(f"{self._path}: {error}") from error


def _lines(reader: "csv.DictReader[str]") -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Read lines of CSV; what is none, for a quote that never ends, has no columns."""
    while True:
        try:
            row: Mapping[str, Any] | None = next(reader, None)
        except csv.Error:
            row = {}
        if row is None:
            return
        yield reader.line_num, row


def _object(line: str) -> Mapping[str, Any]:
    """Read one line of JSONL; what is no object has no columns."""
    try:
        found = json.loads(line, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _known(row: Mapping[str, Any], path: Path) -> Columns:
    for columns in KNOWN:
        if _required(columns) <= row.keys():
            return columns._replace(
                currency=columns.currency if columns.currency in row else None,
                time=columns.time if columns.time in row else None,
                label=columns.label if columns.label in row else None,
            )
    raise ReplayError(
        f"{path}: its columns are of no known data set (PaySim, Sparkov, a transaction's own "
        "fields); say which mean what with --replay-columns"
    )


def _named(columns: Mapping[str, str], path: Path) -> Columns:
    named = dict(columns)
    try:
        found = Columns(
            named.pop("source"),
            named.pop("target"),
            named.pop("amount"),
            named.pop("currency", None),
            named.pop("time", None),
            named.pop("label", None),
        )
    except KeyError as missing:
        raise ReplayError(f"{path}: no column is named for the {missing.args[0]}") from None
    if named:
        raise ReplayError(
            f"{path}: nothing is called {', '.join(named)}; columns are named for source, "
            "target, amount, currency, time and label"
        )
    return found


def _required(columns: Columns) -> set[str]:
    return {columns.source, columns.target, columns.amount}


def _time(row: Mapping[str, Any], columns: Columns) -> float:
    if columns.time is None:
        return 0.0
    text = _text(row, columns.time)
    try:
        seconds = float(text) * columns.unit
    except ValueError:
        moment = datetime.fromisoformat(text)
        # Where no offset is given, the zone of this machine would put its summer time in between.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not EARLIEST_MS <= seconds * 1000 <= LATEST_MS:  # nor is NaN
        raise ValueError(f"{columns.time} is no time: {text}")
    return seconds


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if type(value) not in _WRITTEN:  # None is null, or a line that is too short
        raise ValueError(f"no {column}")
    return str(value)


def _payment(row: Mapping[str, Any], columns: Columns) -> Payment:
    payment = Payment(
        _text(row, columns.source),
        _text(row, columns.target),
        Decimal(_text(row, columns.amount)),
        str(row[columns.currency]) if columns.currency and row.get(columns.currency) else "EUR",
        _label(row, columns),
    )
    # What the gateway would refuse is no transaction: find it here, not among its answers.
    decode_transaction(encode(Transaction("replay", *payment[:4])))
    return payment


def _label(row: Mapping[str, Any], columns: Columns) -> str:
    text = str(row.get(columns.label) or "") if columns.label else ""
    return ORDINARY if text.lower() in _NOT_FRAUD else FRAUD
