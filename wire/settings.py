"""Settings every part shares, read once from options, environment and `.env` (in that order).

A setting's field name in capitals is its environment variable.
"""

import re
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    Field,
    FilePath,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from wire.errors import AccessError, SettingsError

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s,:\[\]/@]+):(\d{1,5})", re.ASCII)
_MAX_PORT = 65_535
_USER = re.compile(r"//[^/]*@")
"""Of a URL: a user, and likely a password."""


def _addresses(text: str) -> str:
    for each in text.split(","):
        match = _ADDRESS.fullmatch(each)
        if match is None or not 0 < int(match[1]) <= _MAX_PORT:
            raise ValueError(
                "expected HOST:PORT[,HOST:PORT...], without spaces; an IPv6 address stands in "
                f"brackets, and ports are 1 to {_MAX_PORT}"
            )
    return text


def _topic_name(text: str) -> str:
    if text in {".", ".."}:
        raise ValueError("Kafka takes any topic's name but . and ..")
    return text


# The characters Kafka allows in a topic's name.
TopicName = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$"), AfterValidator(_topic_name)
]
Addresses = Annotated[str, AfterValidator(_addresses)]


class Settings(BaseSettings):
    """Base of each service's settings: frozen, read from the environment and `.env`."""

    model_config = SettingsConfigDict(
        frozen=True,
        env_file=".env",
        extra="ignore",
        env_ignore_empty=True,
        defer_build=True,  # a process reads one or two of the classes; the others are their bases
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe level that is logged, the audit log aside"
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
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
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
    kafka_oauth_token_url: str | None = Field(
        None, description="token endpoint for OAUTHBEARER, by the client credentials grant"
    )
    kafka_oauth_client_id: str | None = Field(None, description="client id there")
    kafka_oauth_client_secret: SecretStr | None = Field(None, description="client secret there")
    kafka_oauth_header_urlencode: bool = Field(
        False,
        description="form-encode id and secret there, as RFC 6749, 2.3.1 has it; off as Kafka's "
        "clients have it: many endpoints take them as they are",
    )
    kafka_oauth_scope: str | None = Field(None, description="scope asked for there")
    kafka_oauth_cafile: FilePath | None = Field(
        None, description="PEM file of authorities to trust for the endpoint; else the system's"
    )
    kafka_oauth_token_file: FilePath | None = Field(
        None, description="file with a token for OAUTHBEARER, in place of an endpoint"
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

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        names = self.transactions_topic, self.legit_topic, self.fraud_topic, self.dead_letter_topic
        if len(set(names)) < len(names):
            raise ValueError(
                "TRANSACTIONS_TOPIC, LEGIT_TOPIC, FRAUD_TOPIC and DEAD_LETTER_TOPIC must be four "
                f"topics, not {', '.join(names)}"
            )
        return self

    @model_validator(mode="after")
    def _can_sign_in(self) -> Self:
        if not self.kafka_security_protocol.startswith("SASL"):
            return self
        if self.kafka_sasl_mechanism != "OAUTHBEARER":
            needed: tuple[str, ...] = ("kafka_sasl_username", "kafka_sasl_password")
        elif self.kafka_oauth_token_file is not None:
            needed = ()
        else:
            names = ("token_url", "client_id", "client_secret")
            needed = tuple(f"kafka_oauth_{name}" for name in names)
        missing = [name.upper() for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.kafka_sasl_mechanism} needs {' and '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _can_use_its_files(self) -> Self:
        if self.kafka_security_protocol != "PLAINTEXT":
            from wire import tls  # noqa: PLC0415 - few need it

            try:
                if self.kafka_security_protocol.endswith("SSL"):
                    tls.context(self)
                if self.kafka_oauth_cafile is not None:
                    tls.trusting(self.kafka_oauth_cafile, "KAFKA_OAUTH_CAFILE")
            except AccessError as error:
                raise ValueError(str(error)) from error
        return self


class TracingSettings(Settings):
    """Where traces go, if anywhere; named as OpenTelemetry's specification names the variables.

    Its other variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*,
    OTEL_EXPORTER_OTLP_CERTIFICATE, ...) count too: the SDK reads them from the environment.
    """

    otel_exporter_otlp_endpoint: str | None = Field(
        None, description="OpenTelemetry collector, http://HOST:4318; unset: nothing is traced"
    )
    otel_exporter_otlp_traces_endpoint: str | None = Field(
        None, description="the whole URL that traces go to, in place of ENDPOINT/v1/traces"
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        None, description="headers sent to the collector, NAME=VALUE[,...]"
    )
    otel_exporter_otlp_protocol: Literal["http/protobuf"] = Field(
        "http/protobuf", description="how traces are sent"
    )
    otel_traces_exporter: Literal["otlp", "none"] = Field("otlp", description="none: no traces")
    otel_sdk_disabled: bool = Field(False, description="trace nothing, whatever else is set")
    otel_traces_sampler: Literal[
        "parentbased_traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "traceidratio",
        "always_on",
        "always_off",
    ] = Field(
        "parentbased_traceidratio",
        description="which requests are traced; parentbased_: those that their client traces, too",
    )
    otel_traces_sampler_arg: float = Field(
        0.01, ge=0, le=1, description="share of the requests that a ratio sampler traces"
    )

    @field_validator("otel_exporter_otlp_headers")
    @classmethod
    def _are_headers(cls, given: SecretStr | None) -> SecretStr | None:
        if given and not all(name and is_given for name, is_given, _ in _pairs(given)):
            raise ValueError("expected NAME=VALUE[,...]")
        return given

    @property
    def collector_headers(self) -> dict[str, str]:
        """What is sent to the collector beside the traces."""
        given = self.otel_exporter_otlp_headers
        pairs = _pairs(given) if given else []
        return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}

    @property
    def traces_url(self) -> str | None:
        """Where traces are sent; None if nothing is traced."""
        if self.otel_sdk_disabled or self.otel_traces_exporter == "none":
            return None
        base = self.otel_exporter_otlp_endpoint
        return self.otel_exporter_otlp_traces_endpoint or (
            f"{base.rstrip('/')}/v1/traces" if base else None
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


def _pairs(given: SecretStr) -> list[tuple[str, str, str]]:
    return [each.partition("=") for each in given.get_secret_value().split(",")]


S = TypeVar("S", bound=Settings)


def load(kind: type[S], **given: Any) -> S:
    """Read the settings of a kind; values given here win over the environment and `.env`.

    Raises:
        SettingsError: names each bad variable, its value and what was expected, or the file that
            can't be read.
    """
    try:
        return kind(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(map(_complaint, error.errors()))) from None
    except UnicodeDecodeError as error:
        raise SettingsError(f".env is no UTF-8: {error.reason} at byte {error.start}") from None
    except OSError as error:  # a file that is named, or `.env`, lies where we may not look
        raise SettingsError(f"can't read {error.filename}: {error.strerror}") from None


def _complaint(error: Any) -> str:
    said: str = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # about several together; it names them
        return said
    name = str(error["loc"][0]).upper()
    secret = any(word in name for word in ("PASSWORD", "KEY", "SECRET", "TOKEN", "HEADERS"))
    unsaid = secret or error["type"] == "missing"
    value = "" if unsaid else f"={_USER.sub('//***@', repr(error['input']))}"
    return f"{name}{value}: {said}"
