"""Many transactions in one body: each validated and sent as it is read, all answered at the end."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.types import Receive

from api.edge.limits import Spend
from api.errors import DeliveryError, OverloadedError
from api.ingest import answers, bodies, refusals, tally
from api.ingest.answers import Answer
from api.ingest.batch import Batch
from api.ingest.budget import RESULT_BYTES, Hold
from api.ingest.lines import Lines
from api.ingest.outbox import Outbox
from api.ingest.refusals import Refusals
from api.ingest.tally import Outcome, Tally, Unsent
from api.ingest.turns import Turn
from api.ingest.verdicts import Verdicts
from api.problems import (
    NOT_JSON,
    TOO_LARGE,
    Problem,
)
from api.settings import ApiSettings
from wire.bulk import accept_all
from wire.errors import MessageError
from wire.messages import encode
from wire.posted import Accepted, accept

TOGETHER: Final = 250
"""How many records are taken together: if they are valid, less than a turn's work."""

_array = msgspec.json.Decoder(list[msgspec.Raw])


class Results:
    """What became of each record of one body, in order.

    Bounds: the settings' max_batch_records, and per record a transaction_id of at most 64
    characters; of refusals those of `Refusals`.
    """

    def __init__(
        self,
        outbox: Outbox,
        verdicts: Verdicts,
        settings: ApiSettings,
        hold: Hold,
        spend: Spend | None = None,
    ) -> None:
        self._outbox = outbox
        self._verdicts = verdicts
        self._max_bytes = settings.max_transaction_bytes
        self._patience = settings.delivery_timeout
        self._transaction_ids: list[str] = []
        """Of each record; of those that are none, nothing."""
        self._outcomes: list[Outcome] = []
        self._batches: dict[Batch, None] = {}
        self._unsent: dict[str, Unsent] = {}
        self._unheard_of = True
        self._hold = hold
        self._refusals = Refusals(hold)
        self._turn = Turn()
        self._spend = spend
        self._paid = 1  # with the request

    def known(self, records: int) -> None:
        """Have so many records in all be charged to the client, if it is held to a limit."""
        if self._spend is not None and records > self._paid:
            self._spend(records - self._paid)
            self._paid = records

    def make_room(self, records: int) -> None:
        """Have room for the results of so many records more.

        Raises:
            Problem: too much is held.
        """
        self._hold.add(RESULT_BYTES * records)

    def __len__(self) -> int:
        return len(self._outcomes)

    async def take(self, records: Sequence[bytes]) -> None:
        """Validate records and send them on their way, as there is room for them."""
        for begin in range(0, len(records), TOGETHER):
            share = records[begin : begin + TOGETHER]
            if not self._take_together(share):
                for record in share:
                    if (left := self._take_one(record)) is not None:
                        await self._wait_for_room(left)
                    if self._turn.over:
                        await self._turn.pass_on()
            await self._turn.pass_on()

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
        self._unheard_of &= accepted.unheard_of
        self._transaction_ids += accepted.transaction_ids
        self._outcomes += batches
        self._batches.update(dict.fromkeys(batches))
        return True

    def _take_one(self, record: bytes) -> Accepted | None:
        """Take a record; give it back if there is no room for it."""
        if len(record) > self._max_bytes:
            self._note("", refusals.too_large(self._max_bytes))
            return None
        try:
            accepted = accept(record)
        except MessageError as error:
            self._note("", self._refusals.of(error))
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
                self._give_up(accepted, error)
            return

    def _put(self, accepted: Accepted) -> None:
        try:
            batch, _ = self._outbox.put(accepted.key, accepted.value)
        except OverloadedError:
            raise
        except DeliveryError as error:
            self._give_up(accepted, error)
        else:
            self._unheard_of = False  # nobody has looked
            self._note(accepted.transaction_id, batch)
            self._batches[batch] = None

    def _give_up(self, accepted: Accepted, error: DeliveryError) -> None:
        # The same for all records that fail alike; a traceback would hold what was being done.
        unsent = self._unsent.setdefault(str(error), Unsent(error.with_traceback(None)))
        self._note(accepted.transaction_id, unsent)

    def _note(self, transaction_id: str, outcome: Outcome) -> None:
        self._transaction_ids.append(transaction_id)
        self._outcomes.append(outcome)

    async def answer(self) -> Answer:
        """Wait until everything sent is settled; answer for all records.

        Raises:
            Problem: not one record was accepted, and all for the same sort of cause.
        """
        told = await self._told()
        if (refusal := told.refusal()) is not None:
            raise refusal
        return answers.json_answer(207 if told.rejected else 202, encode(told.document()))

    async def cut_short(self, cause: Problem) -> Problem:
        """Say why reading ended before the body did, and what became of the records until there."""
        return (await self._told()).added_to(cause)

    async def _told(self) -> Tally:
        for batch in self._batches:
            await batch.landed()
        return await tally.of(
            self._transaction_ids,
            self._outcomes,
            self._verdicts,
            self._turn,
            unheard_of=self._unheard_of,
        )

    async def _room(self) -> bool:
        try:
            async with asyncio.timeout(self._patience):
                await self._outbox.room()
        except TimeoutError:
            self._patience = 0.0
            return False
        return True


async def take_array(body: bytes, results: Results, max_records: int) -> None:
    """Take the records of a JSON array.

    Raises:
        Problem: it is no JSON array, or a longer one than is taken, or too much is held; nothing
            of it is in Kafka then.
    """
    try:
        records = _array.decode(body)
    except RecursionError:
        raise Problem(NOT_JSON, "not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise Problem(NOT_JSON, f"not valid JSON: {error}") from None
    if len(records) > max_records:
        raise _too_many(max_records)
    results.make_room(len(records))
    results.known(len(records))
    for begin in range(0, len(records), TOGETHER):  # a share at a time: not all of it twice
        await results.take(list(map(bytes, records[begin : begin + TOGETHER])))


async def take_lines(receive: Receive, results: Results, settings: ApiSettings, hold: Hold) -> None:
    """Take the records of an NDJSON body line by line, as they arrive.

    Empty lines are skipped; the last line need not end in a line feed.

    Raises:
        Problem: the body is too large, or has too many records, or too much is held; those before
            may be in Kafka.
        Disconnected: the client went away; those that it sent before are in Kafka.
    """
    lines = Lines(settings.max_transaction_bytes)
    size = 0
    try:
        async for chunk in bodies.chunks(receive):
            size += len(chunk)
            if size > settings.max_body_bytes:
                raise bodies.too_large("max_body_bytes", settings.max_body_bytes)
            hold.add(len(chunk))
            await _take(lines.feed(chunk), results, settings)
            hold.give_back(len(chunk))
            results.known(len(results))
        await _take(lines.feed(b"\n"), results, settings)
    finally:
        results.known(len(results))  # also of those that were cut short


async def _take(lines: Sequence[bytes], results: Results, settings: ApiSettings) -> None:
    longest = settings.max_transaction_bytes
    records = [line for line in lines if line and (not line.isspace() or len(line) > longest)]
    room = settings.max_batch_records - len(results)
    taken = records[:room]
    results.make_room(len(taken))
    await results.take(taken)
    if len(records) > room:
        raise _too_many(settings.max_batch_records)


def _too_many(limit: int) -> Problem:
    return Problem(
        TOO_LARGE, f"max_batch_records: at most {limit} are taken", limit="max_batch_records"
    )
