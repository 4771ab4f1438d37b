"""The gateway's settings: every bound, limit and default of the part is set here."""

from typing import Annotated, Literal

from pydantic import Field

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
