"""Settings every part shares, read once from options, environment and `.env` (in that order).

A setting's field name in capitals is its environment variable.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, FilePath, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from wire.errors import SettingsError

# The characters Kafka allows in a topic's name.
TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Addresses = Annotated[str, StringConstraints(pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$")]


class Settings(BaseSettings):
    """Base of each service's settings: frozen, read from the environment and `.env`."""

    model_config = SettingsConfigDict(
        frozen=True, env_file=".env", extra="ignore", env_ignore_empty=True
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="json, text, or auto: text on a terminal, json elsewhere"
    )


class KafkaSettings(Settings):
    """Where Kafka is, how to talk to it, and what the topics are called."""

    kafka_broker_url: Addresses = Field(
        "127.0.0.1:9092", description="bootstrap brokers, HOST:PORT[,HOST:PORT...]"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="transport to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how to sign in when the transport is SASL"
    )
    kafka_sasl_username: str | None = Field(None, description="user for SASL")
    kafka_sasl_password: SecretStr | None = Field(None, description="password for SASL")
    kafka_ssl_cafile: FilePath | None = Field(
        None, description="PEM file of certificate authorities to trust; else the system's"
    )
    kafka_ssl_certfile: FilePath | None = Field(
        None, description="PEM file with the client's certificate chain (mutual TLS)"
    )
    kafka_ssl_keyfile: FilePath | None = Field(
        None, description="PEM file with the client's private key (mutual TLS)"
    )
    kafka_ssl_key_password: SecretStr | None = Field(
        None, description="password of the private key"
    )
    transactions_topic: TopicName = Field(
        "queueing.transactions", description="topic of accepted transactions"
    )
    legit_topic: TopicName = Field(
        "streaming.transactions.legit", description="topic of verdicts that say legit"
    )
    fraud_topic: TopicName = Field(
        "streaming.transactions.fraud", description="topic of verdicts that say fraud"
    )
    dead_letter_topic: TopicName = Field(
        "queueing.transactions.dead-letter", description="topic of records that are no transaction"
    )


class TopicSettings(KafkaSettings):
    """How the topics are made."""

    partitions: int = Field(4, ge=1, le=1024, description="partitions of each topic")
    replication: int = Field(1, ge=1, le=9, description="replicas of each partition")
    min_insync_replicas: int = Field(
        1, ge=1, le=9, description="replicas that must have a record before it is acknowledged"
    )
    retention_hours: int = Field(
        168, ge=1, description="how long records are kept, in hours (168: a week)"
    )


S = TypeVar("S", bound=Settings)


def load(kind: type[S], **given: Any) -> S:
    """Read the settings of a kind; values given here win over the environment and `.env`.

    Raises:
        SettingsError: names each bad variable, its value and what was expected.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(map(_complaint, error.errors()))) from None


def _complaint(error: Any) -> str:
    name = str(error["loc"][0]).upper() if error["loc"] else "settings"
    secret = "PASSWORD" in name or "KEY" in name
    value = "" if secret or not error["loc"] else f"={error['input']!r}"
    return f"{name}{value}: {error['msg']}"
