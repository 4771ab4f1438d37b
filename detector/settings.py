"""The detector's settings: every bound, limit and default of the part is set here."""

from typing import Annotated

from pydantic import Field, FilePath

from detector.windows import DEFAULT_LIMITS
from wire.audit import AuditSettings
from wire.options import Option
from wire.settings import KafkaSettings, TracingSettings


class DetectorSettings(KafkaSettings, AuditSettings, TracingSettings):
    """What one detector process needs to know."""

    # --- deciding
    detector_rules: Annotated[FilePath | None, Option("--rules")] = Field(
        None, description="TOML file of rules; without it, the shipped rule amount > 900"
    )
    detector_rules_poll_seconds: float = Field(
        1.0, ge=0.01, le=10, description="pause between looks whether that file changed, in seconds"
    )
    detector_window_entries: int = Field(
        DEFAULT_LIMITS.entries, ge=1, description="most entries in each window of a partition"
    )

    # --- the group
    detector_group: Annotated[str, Option("--group")] = Field(
        "fraudstream-detector",
        min_length=1,
        max_length=200,
        description="consumer group; detectors of one group share the partitions",
    )
    detector_session_timeout_ms: int = Field(
        6_000,
        ge=1_000,
        le=300_000,
        description="silence after which a detector counts as dead, in milliseconds",
    )
    detector_heartbeat_ms: int = Field(
        1_000, ge=100, le=100_000, description="pause between signs of life, in milliseconds"
    )
    detector_drain_seconds: float = Field(
        1.5, gt=0, le=60, description="time that the batches in hand get to end in, in seconds"
    )

    # --- batches
    detector_batch_bytes: int = Field(
        1_000_000,
        ge=16_384,
        le=1_048_576,
        description="most bytes in one produced batch; the broker's message.max.bytes bounds it",
    )
    detector_fetch_bytes: int = Field(
        400_000,
        ge=16_384,
        le=52_428_800,
        description="most bytes of one partition in a fetch, and so in a transaction; a larger"
        " record comes alone",
    )
    detector_fetch_total_bytes: int = Field(
        8_000_000, ge=16_384, le=52_428_800, description="most bytes in a fetch from one broker"
    )
    detector_poll_ms: int = Field(
        200, ge=10, le=1_000, description="longest wait for records in one go, in milliseconds"
    )
    detector_pace_ms: float = Field(
        10.0,
        ge=0,
        le=1_000,
        description="least time between two transactions of a detector that keeps up,"
        " in milliseconds: gathering a little lowers the total",
    )
    detector_rest_share: float = Field(
        0.25,
        ge=0,
        le=100,
        description="rest after a transaction of a detector that keeps up, as a multiple of what"
        " the transaction took",
    )
    detector_rest_ms: float = Field(
        40.0, ge=0, le=1_000, description="longest such rest, in milliseconds"
    )
    detector_dead_letter_bytes: int = Field(
        1_000_000,
        ge=1,
        le=10_000_000,
        description="longest record kept whole as a dead letter, in bytes",
    )

    # --- metrics
    detector_metrics_host: str = Field(
        "127.0.0.1", description="address that /metrics and /healthz are served on"
    )
    detector_metrics_port: Annotated[int | None, Option("--metrics-port")] = Field(
        None,
        ge=0,
        le=65535,
        description="port of /metrics and /healthz; 0: any free one, which is logged; unset: none",
    )

    # --- deadlines
    detector_transaction_timeout_ms: int = Field(
        60_000,
        ge=1_000,
        le=900_000,
        description="the broker rolls back a transaction open for longer, in milliseconds",
    )
    detector_deadline_seconds: float = Field(
        20.0,
        gt=0,
        le=900,
        description="longest wait for Kafka in one step before the process ends, in seconds",
    )
    detector_aborts: int = Field(
        10, ge=1, le=1_000, description="rolled-back transactions in a row before the process ends"
    )
