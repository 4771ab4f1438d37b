"""The gateway's settings: every bound, limit and default of the part is set here."""

from typing import Annotated, Literal

from pydantic import Field

from wire.messages import MAX_TRANSACTION_BYTES
from wire.options import Option
from wire.settings import KafkaSettings


class ApiSettings(KafkaSettings):
    """What one gateway process needs to know."""

    # --- serving
    api_host: Annotated[str, Option("--host")] = Field(
        "127.0.0.1", description="address to listen on"
    )
    api_port: Annotated[int, Option("--port")] = Field(
        8000, ge=0, le=65535, description="port to listen on; 0: any free one"
    )
    api_fd: int | None = Field(
        None,
        ge=3,
        description="listening socket inherited from a supervisor, in place of an address",
    )
    api_event_loop: Literal["uvloop", "asyncio"] = Field(
        "uvloop", description="event loop to run on"
    )
    api_shutdown_grace_seconds: int = Field(
        3, ge=1, le=60, description="time that open requests and streams get to end in, in seconds"
    )

    # --- taking transactions in
    max_transaction_bytes: int = Field(
        MAX_TRANSACTION_BYTES,
        ge=256,
        le=262_144,
        description="largest transaction taken, in bytes of JSON as sent",
    )
    max_array_bytes: int = Field(
        1_048_576,
        ge=1024,
        description="largest JSON array taken, in bytes: it is held while it is read",
    )
    max_body_bytes: int = Field(
        67_108_864,
        ge=1024,
        description="largest body taken, in bytes; NDJSON is read as it arrives, never held",
    )
    max_batch_records: int = Field(
        10_000, ge=1, le=1_000_000, description="most transactions in one array or NDJSON body"
    )
    max_requests_in_flight: int = Field(
        1024, ge=1, description="most POSTs under way in one process; more are answered 503"
    )
    max_bytes_in_flight: int = Field(
        33_554_432,
        ge=65_536,
        description="most bytes on their way to Kafka in one process; more are answered 503",
    )
    body_timeout: float = Field(
        30.0, gt=0, le=3600, description="time a request's body may take to arrive, in seconds"
    )
    delivery_timeout: float = Field(
        10.0,
        gt=0,
        le=300,
        description="time Kafka gets to acknowledge a transaction before the answer is 503, "
        "in seconds",
    )
    produce_batch_bytes: int = Field(
        131_072,
        ge=1024,
        le=1_000_000,
        description="largest record batch sent to Kafka; below the topic's max.message.bytes",
    )
    partition_cache_keys: int = Field(
        65_536, ge=1, description="accounts whose partition is remembered, per process"
    )
    max_wait_seconds: int = Field(
        30, ge=0, le=30, description="longest `Prefer: wait` honoured, in seconds"
    )
    max_verdict_waiters: int = Field(
        1024, ge=0, description="most requests that wait for their verdict at a time"
    )
    verdict_index_size: int = Field(
        20_000,
        ge=1,
        description="recent transactions that GET /transactions/{id} knows at least, per process; "
        "at most twice as many are held, about 1 kB each",
    )
