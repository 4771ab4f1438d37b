"""What Kafka refuses us, in words an operator can act on: who we are there, and what is missing."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from wire.errors import AccessError
from wire.settings import KafkaSettings

_SIGN_IN: Final = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
_MOST_CAUSES: Final = 8
_REFUSALS: Final = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    ClusterAuthorizationFailedError,
)


def principal(settings: KafkaSettings) -> str:
    """Say who these settings make us to Kafka."""
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    if protocol.startswith("SASL"):
        if mechanism == "OAUTHBEARER":
            name = settings.kafka_oauth_client_id or settings.kafka_oauth_token_file
            return f"the bearer of the token of {name}"
        return f"user {settings.kafka_sasl_username!r} ({mechanism})"
    if protocol == "SSL" and settings.kafka_ssl_certfile is not None:
        return f"the owner of the certificate {settings.kafka_ssl_certfile}"
    return "an anonymous client"


def refused(
    error: BaseException, settings: KafkaSettings, *, writes: Iterable[str] = ()
) -> AccessError | None:
    """Say what was refused, if that is what an error or one of its causes tells; else None.

    Args:
        error: what a Kafka client raised.
        settings: how it was connected.
        writes: the topics that are written to, not read.
    """
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if isinstance(cause, AccessError):
            return cause
        if isinstance(cause, _SIGN_IN):
            return AccessError(f"Kafka does not let {principal(settings)} in: {_text(cause)}")
        if isinstance(cause, _REFUSALS):
            return lacks(settings, _right(cause, frozenset(writes)))
        if cause is None:
            return None
        cause = cause.__cause__ or cause.__context__
    return None


def lacks(settings: KafkaSettings, right: str) -> AccessError:
    """Make the error of a right that is missing: "Read on topic t"."""
    return AccessError(f"{principal(settings)} lacks a right in Kafka: {right}")


@contextmanager
def told(settings: KafkaSettings, *, writes: Iterable[str] = ()) -> Iterator[None]:
    """Turn what Kafka refuses meanwhile into an AccessError."""
    try:
        yield
    except KafkaError as error:
        refusal = refused(error, settings, writes=writes)
        if refusal is None:
            raise
        raise refusal from error


def _right(error: KafkaError, writes: frozenset[str]) -> str:
    names = _names(error.args[0]) if error.args else []
    of = ", ".join(names) or "(not named)"
    match error:
        case TopicAuthorizationFailedError():
            if not names or not writes:
                return f"Read or Write on topic {of}"
            return f"{'Write' if writes.issuperset(names) else 'Read'} on topic {of}"
        case GroupAuthorizationFailedError():
            return f"Read on group {of}"
        case TransactionalIdAuthorizationFailed():
            return f"Describe and Write on transactional id {of}"
    return "Write on a topic that it writes to (or IdempotentWrite on the cluster)"


def _names(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    if hasattr(given, "topic"):
        return [given.topic]
    if isinstance(given, (set, frozenset, list, tuple)):
        return sorted(str(getattr(each, "topic", each)) for each in given)
    return []


def _text(error: BaseException) -> str:
    return str(error.args[0]) if error.args else type(error).__name__
