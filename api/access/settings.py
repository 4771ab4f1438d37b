"""The settings of who may come in; without any of them, nobody is asked who they are."""

from typing import Annotated, Final, Self

from pydantic import Field, FilePath, HttpUrl, SecretStr, TypeAdapter, model_validator

from api.addresses import is_loopback
from wire.options import Option
from wire.settings import Settings

SESSION_KEY_CHARACTERS: Final = 32
"""Least length of the key that sessions are signed with: it must not be found by trying."""


class AccessSettings(Settings):
    """Which credentials are taken."""

    api_allow_anonymous: Annotated[bool, Option("--allow-anonymous")] = Field(
        False,
        description="listen beyond this machine though nobody is asked who they are",
    )
    api_keys_file: Annotated[FilePath | None, Option("--keys-file")] = Field(
        None, description="file of API keys, as `fraudstream keys` writes it"
    )
    api_keys_poll_seconds: float = Field(
        1.0,
        ge=0.01,
        le=3600,
        description="pause between looks whether the files of keys changed, in seconds",
    )
    api_supervisor_key: SecretStr | None = Field(
        None, description="API key of whatever started this process, for its own requests"
    )
    api_jwt_jwks_file: FilePath | None = Field(
        None, description="JWK Set of those who sign the JSON Web Tokens that are taken"
    )
    api_jwt_jwks_url: str | None = Field(
        None, description="https URL of that JWK Set, in place of a file"
    )
    api_jwt_cafile: FilePath | None = Field(
        None, description="PEM file of authorities to trust for that URL; else the system's"
    )
    api_jwt_issuer: str | None = Field(None, description="issuer that a token must name (iss)")
    api_jwt_audience: str | None = Field(
        None, description="audience that a token must name (aud): this gateway"
    )
    api_jwt_leeway_seconds: float = Field(
        30.0, ge=0, le=300, description="how far the clocks of issuer and gateway may be apart"
    )
    api_jwt_refresh_seconds: float = Field(
        300.0, ge=1, le=86_400, description="pause between two looks at the URL, in seconds"
    )
    api_jwt_unknown_key_seconds: float = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="least pause between looks at it for tokens that name a key not seen yet",
    )
    api_jwt_remembered: int = Field(
        4096, ge=0, description="tokens whose signatures are not checked again, per process"
    )
    api_session_key: SecretStr | None = Field(
        None,
        min_length=SESSION_KEY_CHARACTERS,
        description="secret that browsers' sessions are signed with; unset: made at the start",
    )
    api_session_key_file: FilePath | None = Field(
        None, description="file with that secret, in place of API_SESSION_KEY"
    )
    api_session_seconds: int = Field(
        43_200, ge=60, le=2_592_000, description="longest life of a browser's session, in seconds"
    )

    @property
    def has_tokens(self) -> bool:
        """Whether JSON Web Tokens are taken."""
        return self.api_jwt_jwks_file is not None or self.api_jwt_jwks_url is not None

    @property
    def authenticates(self) -> bool:
        """Whether anyone is asked who they are."""
        return self.api_keys_file is not None or self.has_tokens

    @property
    def session_secret(self) -> bytes | None:
        """The key that sessions are signed with, from wherever it is set."""
        if self.api_session_key is not None:
            return self.api_session_key.get_secret_value().encode()
        if self.api_session_key_file is not None:
            return self.api_session_key_file.read_bytes().strip()
        return None

    @model_validator(mode="after")
    def _tokens_fit_together(self) -> Self:
        if not self.has_tokens:
            return self
        if self.api_jwt_jwks_file is not None and self.api_jwt_jwks_url is not None:
            raise ValueError("set API_JWT_JWKS_FILE or API_JWT_JWKS_URL, not both")
        # Else a token that was made for any other service of the same issuer would do.
        if not self.api_jwt_issuer or not self.api_jwt_audience:
            raise ValueError("tokens need API_JWT_ISSUER and API_JWT_AUDIENCE")
        if self.api_jwt_jwks_url is not None:
            url = TypeAdapter(HttpUrl).validate_python(self.api_jwt_jwks_url)
            if url.scheme != "https" and not is_loopback(url.host or ""):
                raise ValueError("API_JWT_JWKS_URL must be https: who can change it can sign in")
        return self

    @model_validator(mode="after")
    def _has_session_key(self) -> Self:
        try:
            key = self.session_secret
        except OSError as error:
            raise ValueError(f"API_SESSION_KEY_FILE: {error.strerror}") from None
        if key is not None and len(key) < SESSION_KEY_CHARACTERS:
            raise ValueError(
                f"API_SESSION_KEY_FILE must hold {SESSION_KEY_CHARACTERS} characters or more"
            )
        return self
