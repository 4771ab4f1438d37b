"""The settings of the commands that are no part of their own: `up`, `broker`, `tail`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_data_path
from pydantic import Field, FilePath
from pydantic_core import PydanticUndefined

from api.access.settings import AccessSettings
from api.settings import TlsSettings
from wire.options import Option
from wire.settings import KafkaSettings, Settings, TopicSettings, TracingSettings


def default_data_dir() -> Any:
    """Give the user's data directory; without a home there is none, and it must be said."""
    try:
        return user_data_path("fraudstream")
    except RuntimeError:
        return PydanticUndefined


class CommandSettings(Settings):
    """What a command that a person runs in a terminal needs to know."""

    log_format: Literal["auto", "json", "text"] = Field(
        "text", description="json, text, or auto: text on a terminal, json elsewhere"
    )


class BrokerSettings(CommandSettings):
    """What the embedded Kafka needs to know."""

    brokers: Literal["1", "3"] = Field(
        "1", description="embedded Kafka nodes: 1, or 3 with replication 3"
    )
    kafka_port: int = Field(
        9092, ge=1024, le=65000, description="port of the first embedded Kafka node"
    )
    fraudstream_data_dir: Annotated[Path, Option("--data-dir")] = Field(
        default_data_dir(),
        description="where the embedded Kafka's data and all logs stay",
    )
    fresh: bool = Field(False, description="empty the data directory first")


class UpSettings(BrokerSettings, TopicSettings, TlsSettings, AccessSettings, TracingSettings):
    """What `fraudstream up` needs to know; what it is given, it hands on to the parts."""

    kafka_broker_url: Annotated[str, Option("--kafka")] = Field(
        "", description="use this Kafka, HOST:PORT[,...], in place of an embedded one"
    )
    api_host: Annotated[str, Option("--host")] = Field(
        "127.0.0.1", description="address that the gateway listens on"
    )
    api_port: Annotated[int, Option("--port")] = Field(
        8000, ge=0, le=65535, description="port that the gateway listens on; 0: any free one"
    )
    api_workers: int = Field(1, ge=1, le=64, description="gateway processes")
    detectors: int = Field(1, ge=1, le=64, description="detector processes")
    detector_metrics_port: Annotated[int | None, Option("--metrics-port")] = Field(
        None,
        ge=1024,
        le=65000,
        description="port of the first detector's /metrics, the next one's the next; unset: none",
    )
    transactions_per_second: Annotated[int, Option("--tps")] = Field(
        1000, ge=0, le=100_000, description="load to drive through the stack; 0: none"
    )
    detector_rules: Annotated[FilePath | None, Option("--rules")] = Field(
        None, description="TOML file of rules; without it, the shipped rule amount > 900"
    )

    @property
    def is_external(self) -> bool:
        """True when a Kafka of the user's own is to be used."""
        return self.kafka_broker_url != ""


class TailSettings(CommandSettings, KafkaSettings):
    """What `fraudstream tail` needs to know."""

    from_beginning: bool = Field(False, description="begin with the oldest verdict kept")
    max_messages: int | None = Field(None, ge=1, description="end after so many verdicts")
    json_lines: Annotated[bool, Option("--json")] = Field(
        False, description="print each verdict's JSON as it lies in Kafka"
    )
