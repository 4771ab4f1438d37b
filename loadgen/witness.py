"""The witness of a run: follows the verdicts and matches those on what the run sent."""

import asyncio
from collections.abc import Callable
from time import monotonic as now
from typing import Never

import msgspec
import structlog

from loadgen import trust
from loadgen.errors import StreamError
from loadgen.ledger import Ledger
from loadgen.measure import Tally
from loadgen.run import until
from loadgen.settings import LoadgenSettings
from loadgen.streams import EventStream, Follower, VerdictTopics
from wire.errors import FraudstreamError

log = structlog.get_logger(__name__)


class _Seen(msgspec.Struct):
    """What matching needs of a verdict."""

    transaction_id: str
    decision: str


class Witness:
    """Follows the stream that belongs to the target: of the gateway, or of Kafka."""

    def __init__(self, settings: LoadgenSettings, tally: Tally, *, prefix: str) -> None:
        self.ledger = Ledger(
            tally, window=settings.loadgen_verify_window, expect=settings.loadgen_expect
        )
        self._settings = settings
        self._tally = tally
        self._prefix = prefix
        self._decoder = msgspec.json.Decoder(_Seen)
        self._follower: Follower = (
            VerdictTopics(settings, self._hear)
            if settings.loadgen_target == "kafka"
            else EventStream(
                f"{settings.loadgen_url}/stream/all",
                self._hear,
                tally,
                trust.context(settings),
                settings.authorization,
            )
        )
        self._following: asyncio.Task[Never] | None = None

    async def subscribe(self, on_end: Callable[[], None]) -> None:
        """Be subscribed; `on_end` is called if that should break off for good.

        Raises:
            StreamError: it is refused, or does not come about in time.
        """
        self._following = asyncio.create_task(self._follower.follow())
        self._following.add_done_callback(lambda _: on_end())
        subscribed = asyncio.create_task(self._follower.subscribed.wait())
        await asyncio.wait(
            {subscribed, self._following},
            timeout=max(self._settings.loadgen_wait, self._settings.loadgen_timeout),
            return_when=asyncio.FIRST_COMPLETED,
        )
        subscribed.cancel()
        if self._following.done():
            self._following.result()
        if not self._follower.subscribed.is_set():
            raise StreamError("the verdicts can't be subscribed to: no answer in time")

    async def settle(self) -> None:
        """Wait for the verdicts that are owed; what has not come then is lost."""
        seconds = self._settings.loadgen_settle
        await until(lambda: not self.ledger.pending or self._broken_off, seconds)
        if (owed := self.ledger.pending) and not self._broken_off:
            log.warning("no verdict within --settle: lost", transactions=owed, seconds=seconds)
        self.ledger.close()
        if self._following and self._broken_off:
            try:
                self._following.result()
            except FraudstreamError as error:
                # The run is still reported, and has failed: a gap is a fault.
                log.error("the verdicts could not be followed to the end", cause=str(error))
                self._tally.gaps += 1

    async def close(self) -> None:
        """Unsubscribe."""
        if self._following:
            self._following.cancel()
            await asyncio.wait({self._following})

    @property
    def _broken_off(self) -> bool:
        return self._following is not None and self._following.done()

    def _hear(self, data: bytes) -> None:
        """Match a verdict if it is on one of ours: others may send as well."""
        try:
            seen = self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StreamError(f"an event is no verdict: {error}") from None
        if seen.transaction_id.startswith(self._prefix):
            number = seen.transaction_id[len(self._prefix) :]
            if number.isdecimal():
                self.ledger.decided(int(number), fraud=seen.decision == "fraud", at=now())
