"""The gateway's settings: every bound, limit and default of the part is set here."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator

from api.access.settings import AccessSettings
from api.edge.settings import EdgeSettings
from wire.audit import AuditSettings
from wire.options import Option
from wire.posted import MAX_TRANSACTION_BYTES
from wire.settings import Addresses, KafkaSettings, Settings, TracingSettings

MASK_KEY_CHARACTERS: Final = 16
"""Least length of the key that accounts are masked with: it must not be found by trying."""


class TlsSettings(Settings):
    """With what certificate the gateway serves, if it serves TLS itself."""

    api_tls_certificate: Annotated[FilePath | None, Option("--tls-certificate")] = Field(
        None, description="PEM file with the certificate chain to serve HTTPS with; unset: HTTP"
    )
    api_tls_key: Annotated[FilePath | None, Option("--tls-key")] = Field(
        None, description="PEM file with its private key; unset: in the certificate's file"
    )
    api_tls_key_password: SecretStr | None = Field(None, description="password of that key")
    api_tls_poll_seconds: float = Field(
        5.0,
        ge=0.01,
        le=3600,
        description="pause between looks whether these files changed, in seconds",
    )

    @model_validator(mode="after")
    def _has_certificate(self) -> Self:
        if self.api_tls_key is not None and self.api_tls_certificate is None:
            raise ValueError("API_TLS_KEY needs API_TLS_CERTIFICATE")
        return self


class ApiSettings(
    KafkaSettings, TlsSettings, AccessSettings, EdgeSettings, AuditSettings, TracingSettings
):
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
    api_worker: int = Field(
        1, ge=1, le=64, description="number of this process among those that share the address"
    )
    api_worker_fd: int | None = Field(
        None, ge=3, description="second listening socket, inherited, of this process alone"
    )
    api_workers_at: Addresses | None = Field(
        None,
        description="where each of those processes listens alone, HOST:PORT[,...]: /metrics asks "
        "them all, a look-up those that may know more",
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
        description="largest JSON array taken, in bytes: it is held until it is answered",
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
    overload_rest_seconds: float = Field(
        0.5,
        ge=0,
        le=10,
        description="time for which a connection is not read after max_requests_in_flight refused"
        " a request on it, in seconds",
    )
    max_bytes_in_flight: int = Field(
        33_554_432,
        ge=65_536,
        description="most bytes on their way to Kafka in one process; more are answered 503",
    )
    max_body_bytes_in_flight: int = Field(
        67_108_864,
        ge=65_536,
        description="most bytes of bodies, and of results not told yet, held in one process; more"
        " are answered 503; transactions that come alone and in one piece are not counted",
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
        "at most twice as many are held, while VERDICT_INDEX_BYTES has room for them",
    )
    verdict_index_bytes: int = Field(
        64 << 20,
        ge=65_536,
        description="most bytes of those transactions' verdicts in memory, per process: about 700 "
        "each, 16 kB at most; of large ones fewer are known",
    )

    # --- who sees what
    stream_mask_accounts: Literal["never", "always", "unless-scope"] = Field(
        "never",
        description="whether accounts are masked in verdicts; unless-scope: but for credentials "
        "with the scope accounts:read",
    )
    stream_mask_key: SecretStr | None = Field(
        None, min_length=MASK_KEY_CHARACTERS, description="secret that masked ids are made with"
    )
    stream_mask_key_file: FilePath | None = Field(
        None, description="file with that secret, in place of STREAM_MASK_KEY"
    )

    # --- streams
    stream_ring_events: int = Field(
        50_000, ge=1, description="recent verdicts kept in memory for clients that resume"
    )
    stream_ring_bytes: int = Field(
        32 << 20, ge=1, description="most bytes of recent verdicts kept in memory"
    )
    stream_tail_records: int = Field(
        5_000, ge=0, description="verdicts read again per partition when the gateway starts"
    )
    stream_clients: int = Field(10_000, ge=1, description="most open streams in one process")
    stream_clients_per_address: int = Field(
        10_000, ge=1, description="most open streams of one client address in one process"
    )
    stream_clients_per_credential: int = Field(
        10_000, ge=1, description="most open streams of one credential in one process"
    )
    stream_filters: int = Field(
        128, ge=1, description="most different filters in use at a time in one process"
    )
    stream_queue_bytes: int = Field(
        2 << 20,
        ge=1,
        description="bytes a client may be behind the live stream before it is disconnected",
    )
    stream_socket_bytes: int = Field(
        512 << 10, ge=4096, description="bytes the kernel may hold for one stream's client"
    )
    stream_stall_seconds: float = Field(
        30, gt=0, description="time after which a client that takes nothing is disconnected"
    )
    stream_heartbeat_seconds: float = Field(
        15, gt=0, description="time between the comments that keep a stream alive"
    )
    stream_retry_ms: int = Field(
        2_000, ge=0, description="pause that clients are told to make before they reconnect"
    )
    stream_life_seconds: float = Field(
        0, ge=0, description="time after which a stream is ended, to spread clients; 0: never"
    )
    stream_drain_seconds: float = Field(
        1.5, gt=0, description="time that streams get to end in at shutdown before they are cut"
    )
    stream_replays: int = Field(
        4, ge=1, description="clients that are served from Kafka's history at a time"
    )
    stream_replay_records_per_second: int = Field(
        20_000, ge=1, description="records read from Kafka's history, all clients together"
    )
    stream_page_records: int = Field(
        500, ge=1, description="records handled at a time when a client catches up"
    )
    stream_fetch_wait_ms: int = Field(
        500,
        ge=1,
        le=1_000,
        description="longest wait of a broker for new verdicts before it says that there are none,"
        " in milliseconds; those that come are sent at once",
    )
    stream_fetch_bytes: int = Field(
        262_144,
        ge=16_384,
        le=52_428_800,
        description="most bytes of one partition in a fetch for the streams; a larger verdict comes"
        " alone",
    )
    stream_fetch_total_bytes: int = Field(
        524_288,
        ge=16_384,
        le=52_428_800,
        description="most bytes in a fetch of one topic from one broker, for the streams",
    )

    @model_validator(mode="after")
    def _has_mask_key(self) -> Self:
        try:
            key = self.stream_mask_secret
        except OSError as error:
            raise ValueError(f"STREAM_MASK_KEY_FILE: {error.strerror}") from None
        if key is None and self.stream_mask_accounts != "never":
            raise ValueError(
                "STREAM_MASK_ACCOUNTS needs STREAM_MASK_KEY or STREAM_MASK_KEY_FILE, the same one "
                "for all gateways"
            )
        if key is not None and len(key) < MASK_KEY_CHARACTERS:
            raise ValueError(
                f"STREAM_MASK_KEY_FILE must hold {MASK_KEY_CHARACTERS} characters or more"
            )
        return self

    @property
    def stream_mask_secret(self) -> bytes | None:
        """The key that accounts are masked with, from wherever it is set."""
        if self.stream_mask_key is not None:
            return self.stream_mask_key.get_secret_value().encode()
        if self.stream_mask_key_file is not None:
            return self.stream_mask_key_file.read_bytes().strip()
        return None
