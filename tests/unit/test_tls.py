"""PEM files for TLS towards Kafka: those that can't be used are told before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.certificates import Authority
from wire.errors import SettingsError
from wire.settings import KafkaSettings, load

Files = dict[str, Path | str]


class Given:
    """Files of an authority and of two whom it has certified."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.own, self.other = map(self.authority.certify, ("own", "other"))
        self.garbage = directory / "garbage.pem"
        self.garbage.write_text("nothing of the sort\n")
        self.locked = directory / "locked.key"
        key = serialization.load_pem_private_key(self.own.key.read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(b"c4n4ry-right")
        private = serialization.PrivateFormat.PKCS8
        pem = serialization.Encoding.PEM
        self.locked.write_bytes(key.private_bytes(pem, private, encryption))

    def files(self, key: Path | str, **more: str) -> Files:
        """Give the settings of a certificate with this key."""
        names = {"kafka_ssl_cafile": self.authority.file, "kafka_ssl_keyfile": key}
        return {"kafka_ssl_certfile": self.own.certificate, **names, **more}


@pytest.fixture
def given(tmp_path: Path) -> Given:
    """Make the files."""
    return Given(tmp_path)


BAD: dict[str, tuple[Callable[[Given], Files], str]] = {
    "no-authority": (lambda g: {"kafka_ssl_cafile": g.garbage}, "KAFKA_SSL_CAFILE=.*garbage.pem"),
    "no-key": (lambda g: g.files(g.garbage), "KAFKA_SSL_CERTFILE=.*KAFKA_SSL_KEYFILE=.*garbage"),
    "another-s-key": (lambda g: g.files(g.other.key), "KAFKA_SSL_KEYFILE=.*: key values mismatch"),
    "no-password": (lambda g: g.files(g.locked), "KAFKA_SSL_KEYFILE=.*locked.key: "),
    "wrong-password": (
        lambda g: g.files(g.locked, kafka_ssl_key_password="c4n4ry-wrong"),
        "KAFKA_SSL_KEYFILE=.*locked.key: ",
    ),
    "no-authority-for-tokens": (
        lambda g: {
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_sasl_mechanism": "OAUTHBEARER",
            "kafka_oauth_token_file": g.garbage,
            "kafka_oauth_cafile": g.garbage,
        },
        "KAFKA_OAUTH_CAFILE=.*garbage.pem",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_cannot_be_used_are_named(given: Given, case: str) -> None:
    """The error names file and variable, never a password; none is asked for on the terminal."""
    bad, says = BAD[case]
    with pytest.raises(SettingsError, match=says) as told:
        load(KafkaSettings, **({"kafka_security_protocol": "SSL"} | bad(given)))
    assert "c4n4ry" not in str(told.value)


def test_files_that_fit_are_taken(given: Given) -> None:
    """A certificate with its locked key, the key's password, and an authority."""
    files = given.files(given.locked, kafka_ssl_key_password="c4n4ry-right")
    settings = load(KafkaSettings, kafka_security_protocol="SSL", **files)
    assert settings.kafka_ssl_keyfile == given.locked
