"""Credentials for tests: API keys in a file, and an issuer of tokens with keys of each kind."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import api_jws
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from api.access import keyfile
from api.access.scopes import SCOPES

ISSUER = "https://issuer.example"
AUDIENCE = "fraudstream"
MADE = datetime(2026, 1, 1, tzinfo=UTC)
ALGORITHMS = ("RS256", "ES256", "EdDSA")


class KeyFile:
    """A file of API keys, changed as `fraudstream keys` changes it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        with keyfile.changing(self.path):
            pass

    def add(self, *scopes: str, expires_at: datetime | None = None, name: str = "test") -> str:
        """Make a key with these scopes (default: all); give it as it is sent."""
        text, key = keyfile.make(name, scopes or tuple(SCOPES), expires_at, MADE)
        with keyfile.changing(self.path) as keys:
            keys.append(key)
        return text

    def change(self, text: str, **given: Any) -> None:
        """Change what is kept of a key."""
        with keyfile.changing(self.path) as keys:
            (place,) = [i for i, key in enumerate(keys) if key.id == key_id(text)]
            keys[place] = msgspec.structs.replace(keys[place], **given)

    def revoke(self, text: str) -> None:
        """Revoke a key."""
        self.change(text, revoked_at=keyfile.utc_now())


def key_id(text: str) -> str:
    """Give the id in a key."""
    return text.split("_")[1]


def bearer(credential: str) -> dict[str, str]:
    """Give the header that a credential is sent in."""
    return {"Authorization": f"Bearer {credential}"}


class Issuer:
    """Signs tokens, with one key for each algorithm that is taken."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()

    def key(self, algorithm: str) -> Any:
        """Give the private key for an algorithm."""
        return {"RS256": self.rsa, "ES256": self.ec, "EdDSA": self.ed}[algorithm]

    def jwks(self, *more: dict[str, Any], of: Sequence[str] = ALGORITHMS) -> str:
        """Give the public keys as a JWK Set; each one's id is its algorithm's name."""
        made = {
            "RS256": RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True),
            "ES256": ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True),
            "EdDSA": OKPAlgorithm.to_jwk(self.ed.public_key(), as_dict=True),
        }
        keys = [{**made[name], "kid": name, "use": "sig"} for name in of]
        for key in keys:
            key.pop("key_ops", None)
        return json.dumps({"keys": [*keys, *more]})

    def token(
        self,
        algorithm: str = "RS256",
        *,
        header: dict[str, Any] | None = None,
        key: Any = None,
        **claims: Any,
    ) -> str:
        """Sign a token; claims and headers that are None are left out."""
        whole = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "anna",
            "exp": int(time.time()) + 600,
            "scope": " ".join(sorted(SCOPES)),
        } | claims
        given = {name: value for name, value in whole.items() if value is not None}
        named = {"kid": algorithm, "typ": "JWT"} | (header or {})
        # Not by jwt.encode, which refuses to make what others might send.
        return api_jws.encode(
            json.dumps(given).encode(),
            key or self.key(algorithm),
            algorithm,
            {name: value for name, value in named.items() if value is not None},
        )


@cache
def issuer() -> Issuer:
    """Give the tests' issuer: to make an RSA key takes time."""
    return Issuer()


def jwt_settings(folder: Path) -> dict[str, Any]:
    """Give the settings that take the tests' issuer's tokens."""
    path = folder / "jwks.json"
    path.write_text(issuer().jwks())
    return {
        "api_jwt_jwks_file": path,
        "api_jwt_issuer": ISSUER,
        "api_jwt_audience": AUDIENCE,
        "api_jwt_leeway_seconds": 0,
    }
