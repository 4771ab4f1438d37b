"""One batch, pure: the records of a partition in, the records to write out.

No Kafka, no clock: the time of decision is given. Only `decided_at` depends on it; all else in a
verdict follows from the log.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, Final

from aiokafka import TopicPartition

from detector.engine import NOTHING_FOUND, Engine
from detector.records import Entry, Headers
from detector.verdicts import VerdictWriter
from wire.errors import MessageError
from wire.messages import (
    EARLIEST_MS,
    LATEST_MS,
    Transaction,
    decode_transaction,
    decode_transactions,
)
from wire.records import Record

MAX_ERROR_CHARACTERS: Final = 500
"""Longest explanation in a dead letter's `error` header."""

_CALENDAR: Final = range(EARLIEST_MS, LATEST_MS + 1)
_NO_HEADERS: Final[Headers] = []  # the same one for all: aiokafka wants a list


@dataclass(slots=True)
class Outcome:
    """What one batch comes to."""

    legit: list[Entry] = field(default_factory=list)
    """The verdicts that say legit, in the order of the log."""
    fraud: list[Entry] = field(default_factory=list)
    """The verdicts that say fraud, in the order of the log."""
    dead: list[Entry] = field(default_factory=list)
    """The records that are no transaction, in the order of the log."""
    duplicates: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    """How often each rule hit, by id."""


def judge(
    engine: Engine,
    records: Sequence[Record],
    decided_at: datetime,
    place: TopicPartition,
    *,
    cut: int = 1_000_000,
    carry: Callable[[Any], Headers] | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Decide on each record; moves the engine's windows.

    Args:
        engine: has seen the partition up to the first of these records.
        records: consecutive records of one partition.
        decided_at: the clock, UTC.
        place: that partition.
        cut: a longer record (key, value and headers together, in bytes) is cut in its dead letter.
        carry: makes a verdict's headers from its record's, where there are any; None: it has none.
        outcome: of the records before in the same batch, to add to; None: these are the first.
    """
    outcome = Outcome() if outcome is None else outcome

    def refuse(record: Record, error: MessageError) -> None:
        outcome.dead.append(dead_letter(place, record, str(error), cut))

    records, transactions, times_ms = read_all(records, refuse)
    decisions = engine.decide(transactions, times_ms)
    writer = VerdictWriter(engine.rules.version, decided_at)
    verdicts = writer.write(transactions, decisions, times_ms)
    keys = [transaction.source.encode() for transaction in transactions]
    headers = (
        [
            carry(record.headers) if decided and record.headers else _NO_HEADERS
            for record, decided in zip(records, decisions, strict=True)
        ]
        if carry
        else repeat(_NO_HEADERS, len(records))
    )
    legit, fraud, rules = outcome.legit.append, outcome.fraud.append, outcome.rules
    entries = zip(keys, verdicts, headers, strict=True)
    for decided, entry in zip(decisions, entries, strict=True):
        if decided is NOTHING_FOUND:
            legit(entry)
        elif decided is None:
            outcome.duplicates += 1
        else:
            for hit in decided.reasons:
                rules[hit.rule] += 1
            (fraud if decided.decision == "fraud" else legit)(entry)
    return outcome


def replay(engine: Engine, records: Sequence[Record]) -> None:
    """Move the engine's windows over records that were decided before."""
    _, transactions, times_ms = read_all(records)
    engine.take_in(transactions, times_ms)


def read_all(
    records: Sequence[Record], refuse: Callable[[Record, MessageError], None] | None = None
) -> tuple[Sequence[Record], list[Transaction], list[int]]:
    """Give the records that hold a transaction; of each that, and its timestamp (ms).

    Args:
        records: any.
        refuse: is told of each that holds none, and why.
    """
    values = [value for record in records if (value := record.value)]
    times_ms = [record.timestamp for record in records]
    full = bool(values) and len(values) == len(records)
    if full and min(times_ms) >= EARLIEST_MS and max(times_ms) <= LATEST_MS:
        with suppress(MessageError):  # else each for itself, to see which
            return records, decode_transactions(values), times_ms
    good, transactions = [], []
    for record in records:
        try:
            transactions.append(read(record.value, record.timestamp))
        except MessageError as error:
            if refuse:
                refuse(record, error)
        else:
            good.append(record)
    return good, transactions, [record.timestamp for record in good]


def transaction_in(record: Record) -> Transaction | None:
    """Give the record's transaction; None for one that lies in the dead letters."""
    try:
        return read(record.value, record.timestamp)
    except MessageError:
        return None


def read(value: bytes | None, received_ms: int) -> Transaction:
    """Read the transaction in a record.

    Raises:
        MessageError: there is none, or its timestamp is beyond all calendars.
    """
    if value is None:
        raise MessageError("no value")
    transaction = decode_transaction(value)
    if received_ms not in _CALENDAR:
        raise MessageError(f"timestamp {received_ms} is not within the years 1 to 9999")
    return transaction


def dead_letter(place: TopicPartition, record: Record, error: str, cut: int) -> Entry:
    """Keep a record as it was, with headers that say where it lay and what is wrong with it.

    The headers are appended, UTF-8 text: `topic`, `partition`, `offset`, `error`; and `cut`, the
    original's size, where it is longer than `cut` bytes: then only the beginnings of key and value
    are kept. (A compressed batch can hold a record larger than the broker takes as one.)
    """
    key, value, headers = record.key, record.value, list(record.headers)
    size = len(key or b"") + len(value or b"") + sum(len(h) + len(v or b"") for h, v in headers)
    notes = [
        ("topic", place.topic.encode()),
        ("partition", str(place.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("error", error[:MAX_ERROR_CHARACTERS].encode()),
    ]
    if size > cut:
        notes.append(("cut", f"{size} bytes".encode()))
        key = key and key[: cut // 4]
        value = value and value[: cut // 2]
        headers = []
    return key, value, headers + notes
