"""A Kafka that lets nobody in without asking: SASL_SSL and mutual TLS, with an authorizer."""

import asyncio
import base64
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from api import listener
from compose import broker
from tests.certificates import Authority

AUDIENCE = "kafka"
ISSUER = "https://issuer.test"
PASSWORD = "c4n4ry-password"
_MODULE = "org.apache.kafka.common.security"
_KEY_ID = "1"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens (RS256), and writes its public key as a JWKS file."""

    def __init__(self, directory: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA", "alg": "RS256", "use": "sig", "kid": _KEY_ID,
            "n": _base64(numbers.n.to_bytes(256, "big")), "e": _base64(b"\1\0\1"),
        }  # fmt: skip
        self.jwks = directory / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [key]}))

    def token(self, subject: str, seconds: float = 300) -> str:
        """Sign a token."""
        now = int(time.time())
        claims: dict[str, Any] = {"iss": ISSUER, "sub": subject, "aud": AUDIENCE}
        claims |= {"iat": now, "exp": now + int(seconds)}
        head = {"alg": "RS256", "kid": _KEY_ID, "typ": "JWT"}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_base64(signature)}"


@dataclass
class Secured:
    """A running broker with three doors; who comes by the first one, in plain text, may do all."""

    address: str
    sasl: str
    """HOST:PORT of SASL_SSL."""
    mutual: str
    """HOST:PORT of SSL, where clients need a certificate."""
    authority: Authority
    issuer: Issuer
    directory: Path

    @property
    def admin(self) -> AdminClient:
        """A client that may do all."""
        return AdminClient({"bootstrap.servers": self.address})

    def add_users(self, *names: str) -> None:
        """Let users sign in by both SCRAM mechanisms, with PASSWORD."""
        client = self.admin
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            how = ScramCredentialInfo(mechanism, 4096)
            wanted = [UserScramCredentialUpsertion(n, how, PASSWORD.encode()) for n in names]
            for future in client.alter_user_scram_credentials(wanted).values():
                future.result(20)

    def allow(self, user: str, *rights: str) -> None:
        """Give rights, each as "Read topic NAME"; "prefix NAME*" for all that begin so."""
        bindings = [_binding(user, *right.split()) for right in rights]
        client = self.admin
        for future in client.create_acls(bindings).values():
            future.result(20)

    def take(self, user: str, right: str) -> None:
        """Take a right away that was given."""
        given = _binding(user, *right.split())
        wanted = AclBindingFilter(
            given.restype,
            given.name,
            given.resource_pattern_type,
            given.principal,
            given.host,
            given.operation,
            given.permission_type,
        )
        client = self.admin
        for future in client.delete_acls([wanted]).values():
            assert len(future.result(20)) == 1

    def options(self, name: str, mechanism: str) -> dict[str, Any]:
        """Give the settings by which a part signs in."""
        common = {"kafka_ssl_cafile": self.authority.file}
        if mechanism == "mTLS":
            own = self.authority.certify(name)
            return common | {
                "kafka_broker_url": self.mutual,
                "kafka_security_protocol": "SSL",
                "kafka_ssl_certfile": own.certificate,
                "kafka_ssl_keyfile": own.key,
            }
        common |= {
            "kafka_broker_url": self.sasl,
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": mechanism,
        }
        if mechanism == "OAUTHBEARER":
            file = self.directory / f"{name}.token"
            file.write_text(self.issuer.token(name) + "\n")
            return common | {"kafka_oauth_token_file": file}
        return common | {"kafka_sasl_username": name, "kafka_sasl_password": PASSWORD}


def _binding(user: str, operation: str, kind: str, name: str) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
    return AclBinding(
        getattr(ResourceType, kind.upper()), name.rstrip("*"), pattern, f"User:{user}", "*",
        getattr(AclOperation, operation.upper()), AclPermissionType.ALLOW,
    )  # fmt: skip


def properties(authority: Authority, issuer: Issuer, plain_users: Iterable[str]) -> dict[str, str]:
    """Give the broker's properties beside its listeners."""
    own = authority.certify("broker")
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in plain_users)
    sasl = "listener.name.sasl_ssl"
    return {
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
        "SASL_SSL:SASL_SSL,SSL:SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(own.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.ssl.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        f"{sasl}.plain.sasl.jaas.config": f"{_MODULE}.plain.PlainLoginModule required {users};",
        f"{sasl}.scram-sha-256.sasl.jaas.config": f"{_MODULE}.scram.ScramLoginModule required;",
        f"{sasl}.scram-sha-512.sasl.jaas.config": f"{_MODULE}.scram.ScramLoginModule required;",
        f"{sasl}.oauthbearer.sasl.jaas.config": (
            f"{_MODULE}.oauthbearer.OAuthBearerLoginModule required;"
        ),
        f"{sasl}.oauthbearer.sasl.server.callback.handler.class": (
            f"{_MODULE}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
        "sasl.oauthbearer.jwks.endpoint.url": issuer.jwks.as_uri(),
        "sasl.oauthbearer.expected.audience": AUDIENCE,
        "sasl.oauthbearer.expected.issuer": ISSUER,
        # Who has no right of any kind: nothing. ANONYMOUS is who comes in plain text.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }


def start(cluster_of: Any, directory: Path, plain_users: Iterable[str]) -> tuple[Any, Secured]:
    """Start such a broker; give its cluster, to be killed at the end, and itself.

    Args:
        cluster_of: makes a cluster of one node with these properties and flags.
        directory: where certificates and keys are kept.
        plain_users: who may sign in by PLAIN, with PASSWORD.
    """
    authority, issuer = Authority(directory), Issuer(directory)
    allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.jwks.as_uri()}"
    cluster = cluster_of(extra=properties(authority, issuer, plain_users), flags=(allowed,))
    sockets = [listener.bind("127.0.0.1", 0) for _ in range(2)]
    sasl, mutual = (f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    for address in (f"SASL_SSL://{sasl}", f"SSL://{mutual}"):
        cluster.listen(address, address)
    with ThreadPoolExecutor(1) as pool:
        cluster.launch()
        pool.submit(lambda: asyncio.run(broker.answers(cluster.address, patience=30))).result()
    return cluster, Secured(cluster.address, sasl, mutual, authority, issuer, directory)
