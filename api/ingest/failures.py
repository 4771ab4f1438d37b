"""Problems made of what can go wrong with one transaction."""

from typing import Final

from api.errors import (
    DeliveryError,
    NotAcknowledgedError,
    OverloadedError,
    ShuttingDownError,
    UnreachableError,
)
from api.problems import (
    INVALID_TRANSACTION,
    KAFKA_UNAVAILABLE,
    NOT_ACKNOWLEDGED,
    NOT_JSON,
    OVERLOADED,
    SHUTTING_DOWN,
    Kind,
    Problem,
)
from wire.errors import MessageError
from wire.posted import MAX_FIELD_ERRORS

_KINDS: Final[dict[type[DeliveryError], Kind]] = {
    OverloadedError: OVERLOADED,
    UnreachableError: KAFKA_UNAVAILABLE,
    ShuttingDownError: SHUTTING_DOWN,
    NotAcknowledgedError: NOT_ACKNOWLEDGED,
}


def invalid(error: MessageError, most_errors: int = MAX_FIELD_ERRORS) -> Problem:
    """Say what is wrong with a body that is no transaction."""
    kind = INVALID_TRANSACTION if error.is_json else NOT_JSON
    return Problem(kind, error.detail, errors=error.errors[:most_errors])


def undelivered(error: DeliveryError, transaction_id: str) -> Problem:
    """Say why a transaction is not known to be in Kafka, and which one to send again."""
    return Problem(_KINDS[type(error)], str(error), transaction_id=transaction_id)
