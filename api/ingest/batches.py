"""Many transactions in one body: each validated and sent as it is read, all answered at the end."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.types import Receive

from api.edge.limits import Spend
from api.errors import DeliveryError, OverloadedError
from api.ingest import answers, bodies
from api.ingest.answers import Answer
from api.ingest.batch import Batch
from api.ingest.failures import invalid, undelivered
from api.ingest.lines import Lines
from api.ingest.outbox import Outbox
from api.ingest.verdicts import Verdicts
from api.problems import (
    INVALID_TRANSACTION,
    KAFKA_UNAVAILABLE,
    NOT_JSON,
    TOO_LARGE,
    Problem,
)
from api.settings import ApiSettings
from wire.bulk import accept_all
from wire.errors import MessageError
from wire.messages import encode
from wire.posted import Accepted, accept

MAX_ERRORS_PER_RECORD: Final = 4
"""Most field errors told for one record of a batch."""
TOGETHER: Final = 250
"""How many records are taken together; other requests get their turn after each such share."""

_array = msgspec.json.Decoder(list[msgspec.Raw])


class _Accepted(msgspec.Struct, gc=False):
    """What is told of a record that Kafka has."""

    index: int
    status: int
    transaction_id: str


class _Refused(msgspec.Struct):
    """What is told of any other."""

    index: int
    status: int
    error: dict[str, Any]


class Results:
    """What became of each record of one body, in order.

    Bounds: the settings' max_batch_records, and per record a transaction_id of at most 64
    characters or one problem.
    """

    def __init__(
        self,
        outbox: Outbox,
        verdicts: Verdicts,
        settings: ApiSettings,
        spend: Spend | None = None,
    ) -> None:
        self._outbox = outbox
        self._verdicts = verdicts
        self._max_bytes = settings.max_transaction_bytes
        self._patience = settings.delivery_timeout
        self._entries: list[tuple[str, Batch] | Problem] = []
        self._batches: dict[Batch, None] = {}
        self._spend = spend
        self._paid = 1  # with the request

    def known(self, records: int) -> None:
        """Have so many records in all be charged to the client, if it is held to a limit."""
        if self._spend is not None and records > self._paid:
            self._spend(records - self._paid)
            self._paid = records

    def __len__(self) -> int:
        return len(self._entries)

    async def take(self, records: Sequence[bytes]) -> None:
        """Validate records and send them on their way, as there is room for them."""
        for begin in range(0, len(records), TOGETHER):
            share = records[begin : begin + TOGETHER]
            if not self._take_together(share):
                for record in share:
                    if (left := self._take_one(record)) is not None:
                        await self._wait_for_room(left)
            await asyncio.sleep(0)

    def _take_together(self, records: Sequence[bytes]) -> bool:
        """Take all of some records or, where one is refused or unusual, none."""
        if max(map(len, records)) > self._max_bytes:
            return False
        accepted = accept_all(records)
        if accepted is None:
            return False
        try:
            batches = self._outbox.put_all(accepted.keys, accepted.values)
        except DeliveryError:
            return False
        self._entries.extend(zip(accepted.transaction_ids, batches, strict=True))
        self._batches.update(dict.fromkeys(batches))
        return True

    def _take_one(self, record: bytes) -> Accepted | None:
        """Take a record; give it back if there is no room for it."""
        if len(record) > self._max_bytes:
            self._entries.append(bodies.too_large("max_transaction_bytes", self._max_bytes))
            return None
        try:
            accepted = accept(record)
        except MessageError as error:
            self._entries.append(invalid(error, MAX_ERRORS_PER_RECORD))
            return None
        try:
            self._put(accepted)
        except OverloadedError:
            return accepted
        return None

    async def _wait_for_room(self, accepted: Accepted) -> None:
        """Send a record that was given back on its way, as soon as there is room for it."""
        while True:
            patient = await self._room()
            try:
                self._put(accepted)
            except OverloadedError as error:
                if patient:
                    continue
                self._entries.append(undelivered(error, accepted.transaction_id))
            return

    def _put(self, accepted: Accepted) -> None:
        try:
            batch, _ = self._outbox.put(accepted.key, accepted.value)
        except OverloadedError:
            raise
        except DeliveryError as error:
            self._entries.append(undelivered(error, accepted.transaction_id))
        else:
            self._entries.append((accepted.transaction_id, batch))
            self._batches[batch] = None

    async def answer(self) -> Answer:
        """Wait until everything sent is settled; answer for all records.

        Raises:
            Problem: not one record was accepted, and all for the same sort of cause.
        """
        accepted, rejected = await self._settle()
        body = self._written(accepted)
        if accepted and not rejected:
            return answers.json_answer(202, body)
        if not accepted:
            retriable = {problem.kind.retriable for problem in rejected}
            if retriable != {True, False}:
                raise self._refusal(rejected, body)
        return answers.json_answer(207, body)

    async def cut_short(self, cause: Problem) -> Problem:
        """Say why reading ended before the body did, and what became of the records until there."""
        accepted, _ = await self._settle()
        return _with_results(cause, self._written(accepted))

    async def _settle(self) -> tuple[int, list[Problem]]:
        for batch in self._batches:
            await batch.landed()
        if any(batch.error is not None for batch in self._batches):
            self._entries = [_outcome(entry) for entry in self._entries]
        accepted = [entry[0] for entry in self._entries if isinstance(entry, tuple)]
        self._verdicts.accepted_all(accepted)
        return len(accepted), [entry for entry in self._entries if isinstance(entry, Problem)]

    def _written(self, accepted: int) -> bytes:
        results = [
            _Accepted(index, 202, entry[0])
            if isinstance(entry, tuple)
            else _Refused(index, entry.kind.status, entry.document())
            for index, entry in enumerate(self._entries)
        ]
        rejected = len(results) - accepted
        return encode({"accepted": accepted, "rejected": rejected, "results": results})

    async def _room(self) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await self._outbox.room()
        except TimeoutError:
            self._patience = 0.0
            return False
        return True

    @staticmethod
    def _refusal(rejected: list[Problem], body: bytes) -> Problem:
        if not rejected:
            empty = Problem(INVALID_TRANSACTION, "the body holds no transaction")
            return _with_results(empty, body)
        if rejected[0].kind.retriable:
            kinds = {problem.kind for problem in rejected}
            kind = kinds.pop() if len(kinds) == 1 else KAFKA_UNAVAILABLE
            return _with_results(Problem(kind, "no transaction is known to be in Kafka"), body)
        return _with_results(Problem(INVALID_TRANSACTION, "no transaction is valid"), body)


async def take_array(body: bytes, results: Results, max_records: int) -> None:
    """Take the records of a JSON array.

    Raises:
        Problem: it is no JSON array, or a longer one than is taken; nothing of it is in Kafka then.
    """
    try:
        records = _array.decode(body)
    except RecursionError:
        raise Problem(NOT_JSON, "not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise Problem(NOT_JSON, f"not valid JSON: {error}") from None
    if len(records) > max_records:
        raise _too_many(max_records)
    results.known(len(records))
    await results.take(list(map(bytes, records)))


async def take_lines(receive: Receive, results: Results, settings: ApiSettings) -> None:
    """Take the records of an NDJSON body line by line, as they arrive.

    Empty lines are skipped; the last line need not end in a line feed.

    Raises:
        Problem: the body is too large, or has too many records; those before may be in Kafka.
        Disconnected: the client went away; those that it sent before are in Kafka.
    """
    lines = Lines(settings.max_transaction_bytes)
    size = 0
    try:
        async for chunk in bodies.chunks(receive):
            size += len(chunk)
            if size > settings.max_body_bytes:
                raise bodies.too_large("max_body_bytes", settings.max_body_bytes)
            await _take(lines.feed(chunk), results, settings)
            results.known(len(results))
        await _take(lines.feed(b"\n"), results, settings)
    finally:
        results.known(len(results))  # also of those that were cut short


async def _take(lines: Sequence[bytes], results: Results, settings: ApiSettings) -> None:
    longest = settings.max_transaction_bytes
    records = [line for line in lines if line and (not line.isspace() or len(line) > longest)]
    room = settings.max_batch_records - len(results)
    await results.take(records[:room])
    if len(records) > room:
        raise _too_many(settings.max_batch_records)


def _outcome(entry: tuple[str, Batch] | Problem) -> tuple[str, Batch] | Problem:
    """Tell what became of a record whose batch is settled."""
    if isinstance(entry, tuple) and entry[1].error is not None:
        return undelivered(entry[1].error, entry[0])
    return entry


def _too_many(limit: int) -> Problem:
    return Problem(
        TOO_LARGE, f"max_batch_records: at most {limit} are taken", limit="max_batch_records"
    )


def _with_results(problem: Problem, body: bytes) -> Problem:
    return Problem(problem.kind, problem.detail, **problem.extra, **json.loads(body))
