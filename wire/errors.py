"""The errors every part shares.

FraudstreamError
├── SettingsError           a setting is missing or malformed; names variable, value and expectation
├── MessageError            bytes that are no transaction or verdict; carries the field errors
├── BrokerUnreachableError  no Kafka broker answered within the time given
├── TopicsError             the topics can't be had as wanted; names the topic and the cause
├── MetricsError            the metrics can't be served at the address that is set
├── AuditError              the audit log can't be written
├── OutputError             standard output can't be written
├── AccessError             Kafka does not let us in, or not do what we asked; says who lacks what
└── StuckError              Kafka did not answer, or nothing moved, within a deadline
    └── RecordsGoneError    nothing is at an offset any more that was to be read
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aiokafka import TopicPartition  # not loaded by who only asks for --help


class FraudstreamError(Exception):
    """Base of all errors that this project raises on purpose."""


class SettingsError(FraudstreamError):
    """A setting is missing or malformed; the text names the variable and what was expected."""


class FieldError(NamedTuple):
    """One thing wrong with one field."""

    pointer: str
    """JSON Pointer (RFC 6901) to the field; empty for the whole document."""
    detail: str
    """What was expected, in a sentence for the sender."""


class MessageError(FraudstreamError):
    """Bytes that are not the message they should be."""

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors

    @property
    def is_json(self) -> bool:
        """True when the bytes were JSON of the wrong shape; False when they were no JSON."""
        return bool(self.errors)


class BrokerUnreachableError(FraudstreamError):
    """No Kafka broker answered within the time given."""


class TopicsError(FraudstreamError):
    """The topics can't be had as wanted; the text names the topic and the cause."""


class MetricsError(FraudstreamError):
    """The metrics can't be served at the address that is set."""


class AuditError(FraudstreamError):
    """The audit log can't be written; the text names file and cause."""


class OutputError(FraudstreamError):
    """Standard output can't be written; the text gives the cause."""


class AccessError(FraudstreamError):
    """Kafka does not let us in, or not do what we asked; the text says who lacks what."""


class StuckError(FraudstreamError):
    """Kafka did not answer, or refused for good, or nothing moved within a deadline."""


class RecordsGoneError(StuckError):
    """Nothing is at an offset any more: retention has overtaken it, or the log has lost its end."""

    def __init__(self, place: "TopicPartition", offset: int) -> None:
        super().__init__(f"nothing is at offset {offset} of {place} any more")
        self.place = place
        self.offset = offset
