"""One verdict as it was read from Kafka."""

import structlog

from wire.errors import MessageError
from wire.messages import Verdict, decode_verdict

log = structlog.get_logger(__name__)


class Event:
    """A verdict topic's record: its place, its timestamp, its bytes; decoded only if asked for."""

    __slots__ = (
        "_decoded",
        "_verdict",
        "offset",
        "partition",
        "timestamp_ms",
        "topic",
        "traceparent",
        "value",
    )

    def __init__(
        self,
        topic: int,
        partition: int,
        offset: int,
        timestamp_ms: int,
        value: bytes,
        *,
        traceparent: bytes | None = None,
    ) -> None:
        self.topic = topic
        """FRAUD or LEGIT (api.streams.position)."""
        self.partition = partition
        self.offset = offset
        self.timestamp_ms = timestamp_ms
        self.value = value
        self.traceparent = traceparent
        """The span that made it, if its trace is recorded (W3C Trace Context)."""
        self._decoded = False
        self._verdict: Verdict | None = None

    @property
    def is_decoded(self) -> bool:
        """Whether the verdict is held decoded, at three times what its bytes take."""
        return self._verdict is not None

    def forget(self) -> None:
        """Hold the verdict by its bytes alone; what is none is not looked at again."""
        if self._verdict is not None:
            self._verdict = None
            self._decoded = False

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, decoded once; None if another program wrote something else there."""
        if not self._decoded:
            self._decoded = True
            try:
                self._verdict = decode_verdict(self.value)
            except MessageError as error:
                # Where it is wrong, not what is there: an error's text may quote the record.
                _, _, at = str(error).rpartition(" - at ")
                log.warning(
                    "record is no verdict",
                    topic=self.topic,
                    partition=self.partition,
                    offset=self.offset,
                    at=at if at.startswith("`$") else "",
                )
        return self._verdict
