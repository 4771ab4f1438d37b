"""Settings of the edge: proxies, hosts, origins, connections, limits."""

import re
from ipaddress import ip_network
from typing import Final

from pydantic import Field, field_validator

from wire.settings import Settings

_HOST: Final = re.compile(r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
_ORIGIN: Final = re.compile(r"\*|https?://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII)


class EdgeSettings(Settings):
    """Who may come in, from where, and how often."""

    # --- who is in front, and what we are called
    api_trusted_proxies: str | None = Field(
        None,
        description="proxies whose X-Forwarded-For and -Proto are believed, ADDRESS or CIDR[,...];"
        " unset: nobody's",
    )
    api_allowed_hosts: str | None = Field(
        None,
        description="names that requests may be for, NAME or *.NAME[,...], beside localhost and IP"
        " addresses; * : any; unset: none on loopback, any elsewhere",
    )
    api_cors_origins: str | None = Field(
        None,
        description="origins whose pages may use the API, https://NAME[:PORT][,...]; * : all, but"
        " without cookies; unset: only its own",
    )
    api_hsts_seconds: int = Field(
        31_536_000,
        ge=0,
        description="how long browsers are to use HTTPS only, where the gateway serves it itself;"
        " 0: they are not told",
    )

    # --- connections, of one process
    api_connections: int = Field(
        16_384, ge=1, description="most connections in one process, streams among them"
    )
    api_connections_per_address: int = Field(
        0, ge=0, description="most of them from one address, trusted proxies aside; 0: all"
    )
    api_header_timeout: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="time that a request's header may take to arrive, in seconds",
    )
    api_header_bytes: int = Field(
        32_768, ge=4_096, le=1_048_576, description="largest request header taken, in bytes"
    )

    # --- requests and the transactions in them, of one process
    limit_address_rate: float = Field(
        0, ge=0, description="requests a second of one client address; 0: any"
    )
    limit_address_burst: int = Field(
        1_000, ge=1, description="requests that an address may make at once"
    )
    limit_credential_rate: float = Field(
        0, ge=0, description="requests a second with one credential; 0: any"
    )
    limit_credential_burst: int = Field(
        1_000, ge=1, description="requests that may be made with a credential at once"
    )
    limit_failure_rate: float = Field(
        1.0,
        gt=0,
        description="credentials that do not count, a second, of one client address; more get 429",
    )
    limit_failure_burst: int = Field(20, ge=1, description="such credentials at once")
    limit_clients: int = Field(
        65_536, ge=1, description="addresses, and credentials, whose use is remembered"
    )

    @field_validator("api_trusted_proxies")
    @classmethod
    def _are_networks(cls, given: str | None) -> str | None:
        for each in split(given):
            try:
                ip_network(each)
            except ValueError as error:
                raise ValueError(f"expected ADDRESS or CIDR[,...]: {error}") from None
        return given

    @field_validator("api_allowed_hosts")
    @classmethod
    def _are_hosts(cls, given: str | None) -> str | None:
        if not all(_HOST.fullmatch(each) for each in split(given)):
            raise ValueError("expected NAME or *.NAME[,...], without ports")
        return given

    @field_validator("api_cors_origins")
    @classmethod
    def _are_origins(cls, given: str | None) -> str | None:
        if not all(_ORIGIN.fullmatch(each) for each in split(given)):
            raise ValueError("expected https://NAME[:PORT][,...], or *")
        return given

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """The proxies that are believed."""
        return split(self.api_trusted_proxies)

    @property
    def allowed_hosts(self) -> tuple[str, ...] | None:
        """The names that requests may be for; None if none are given."""
        return split(self.api_allowed_hosts) or None

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """The origins whose pages may use the API."""
        return split(self.api_cors_origins)


def split(given: str | None) -> tuple[str, ...]:
    """Give the parts of a list as it is written in a variable."""
    return tuple(part for each in (given or "").lower().split(",") if (part := each.strip()))
