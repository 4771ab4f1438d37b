"""The JWK Set: which keys of it are taken, and when it is read or fetched again."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import certifi
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from api.access import jwks
from api.access.jwks import MAX_ALIKE, MAX_SET_BYTES
from api.access.settings import AccessSettings
from api.access.tokens import Tokens
from api.errors import CredentialError, KeySetError
from tests.credentials import ALGORITHMS, AUDIENCE, ISSUER, issuer, jwt_settings


@pytest.fixture
def settings(tmp_path: Path) -> AccessSettings:
    """Take the tests' issuer's tokens."""
    return AccessSettings(**jwt_settings(tmp_path))


def test_a_bad_set_keeps_the_old_one(settings: AccessSettings) -> None:
    """What can't be used changes nothing."""
    tokens = Tokens(settings)
    assert settings.api_jwt_jwks_file is not None
    for bad in ("", "[]", "{}", '{"keys": {}}', '{"keys": []}', '{"keys": [1]}', "[" * 5000):
        settings.api_jwt_jwks_file.write_text(bad)
        tokens.keys._reload()
        found = asyncio.run(tokens.check(issuer().token().encode(), time.time()))
        assert found.id == "jwt:anna"


def test_only_keys_that_signatures_are_checked_with_are_taken() -> None:
    """No shared secrets, no private keys, none for encryption, none too short, no other curves."""
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - which is to be refused
    short = RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True)
    private = RSAAlgorithm.to_jwk(issuer().rsa, as_dict=True)
    public = json.loads(issuer().jwks())["keys"][0]
    others: list[dict[str, Any]] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
        {**short, "kid": "short"},
        {**private, "kid": "private"},
        {**public, "kid": "encryption", "use": "enc"},
        {**public, "kid": "ps", "alg": "PS256"},
        {**public, "kid": "confused", "alg": "HS256"},
        {**public, "kid": "odd", "n": 1},
        {**public, "kid": 1},
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "curve"},
        {"kty": "RSA"},
    ]
    found = jwks.parse(issuer().jwks(*others).encode())
    assert set(found) == {(name, name) for name in ALGORITHMS}
    with pytest.raises(KeySetError, match="no key for any of"):
        jwks.parse(json.dumps({"keys": others}).encode())


def test_each_key_that_may_be_meant_is_tried(settings: AccessSettings) -> None:
    """Of keys without an id, or with the same one; not of more than can be tried on each token."""
    keys = [issuer().rsa, *(rsa.generate_private_key(65537, 2048) for _ in range(MAX_ALIKE))]
    public = [RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) for key in keys]
    for given in ({}, {"kid": "same"}):
        assert settings.api_jwt_jwks_file is not None
        settings.api_jwt_jwks_file.write_text(
            json.dumps({"keys": [{**key, "alg": "RS256", **given} for key in public]})
        )
        tokens = Tokens(settings)
        named = {"kid": None} | given
        signed = [issuer().token(key=key, header=named).encode() for key in keys]
        for token in signed[:MAX_ALIKE]:
            assert asyncio.run(tokens.check(token, time.time())).id == "jwt:anna"
        with pytest.raises(CredentialError, match="not valid"):
            asyncio.run(tokens.check(signed[-1], time.time()))


class Endpoint:
    """A server of a JWK Set that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.body = issuer().jwks(of=["RS256"])
        self.status = HTTPStatus.OK
        self.url = ""

    async def answer(self, _request: web.Request) -> web.Response:
        """Give the set."""
        self.asked += 1
        return web.Response(text=self.body, status=self.status)

    def settings(self, **given: Any) -> AccessSettings:
        """Give settings that ask here."""
        named = {"api_jwt_issuer": ISSUER, "api_jwt_audience": AUDIENCE}
        return AccessSettings(api_jwt_jwks_url=self.url, **(named | given))


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Serve a JWK Set."""
    made = Endpoint()
    application = web.Application()
    application.router.add_get("/jwks", made.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    sock = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, sock).start()
    made.url = f"http://127.0.0.1:{sock.getsockname()[1]}/jwks"
    yield made
    await runner.cleanup()


async def sub(tokens: Tokens, token: str) -> str:
    """Give the id that a token stands for, or why it does not count."""
    try:
        return (await tokens.check(token.encode(), time.time())).id
    except CredentialError as error:
        return str(error)


async def until(ask: Callable[[], Awaitable[str]], wanted: str) -> None:
    """Wait for an answer."""
    async with asyncio.timeout(20):
        while await ask() != wanted:
            await asyncio.sleep(0.02)


UNKNOWN = "the token is signed with a key that is not known"


async def test_a_new_key_is_fetched_and_not_too_often(endpoint: Endpoint) -> None:
    """Once for all that wait, and again for an unknown key only after a pause."""
    tokens = Tokens(endpoint.settings(api_jwt_unknown_key_seconds=3600))
    made = [issuer().token(sub=f"s{number}") for number in range(5)]
    found = await asyncio.gather(*(sub(tokens, token) for token in made))
    assert found == [f"jwt:s{number}" for number in range(5)]
    assert endpoint.asked == 1
    for _ in range(5):
        assert await sub(tokens, issuer().token("ES256")) == UNKNOWN
    assert endpoint.asked == 1
    eager = Tokens(endpoint.settings(api_jwt_unknown_key_seconds=0.1))
    assert await sub(eager, issuer().token("ES256")) == UNKNOWN
    endpoint.body = issuer().jwks()
    await until(lambda: sub(eager, issuer().token("ES256")), "jwt:anna")


async def test_a_failed_fetch_keeps_the_keys(endpoint: Endpoint) -> None:
    """An endpoint that fails, says nonsense or says too much does not sign anyone out."""
    tokens = Tokens(endpoint.settings(api_jwt_remembered=0))
    assert await sub(tokens, issuer().token()) == "jwt:anna"
    whole = endpoint.body
    for body, status in (
        (whole, HTTPStatus.INTERNAL_SERVER_ERROR),
        ("", HTTPStatus.OK),
        (whole + " " * MAX_SET_BYTES, HTTPStatus.OK),
        (issuer().jwks(of=["EdDSA"]), HTTPStatus.FOUND),
    ):
        endpoint.body, endpoint.status = body, status
        asked = endpoint.asked
        await tokens.keys._ask()
        assert endpoint.asked == asked + 1
        assert await sub(tokens, issuer().token()) == "jwt:anna"


async def test_keys_are_fetched_again_now_and_then(endpoint: Endpoint) -> None:
    """So that one that the issuer takes back counts no more."""
    tokens = Tokens(endpoint.settings(api_jwt_refresh_seconds=1))
    running = asyncio.create_task(tokens.keys.run())
    assert await sub(tokens, issuer().token()) == "jwt:anna"
    endpoint.body = issuer().jwks(of=["EdDSA"])
    await until(lambda: sub(tokens, issuer().token()), UNKNOWN)
    running.cancel()


async def test_the_system_says_whom_to_trust(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a package's list of authorities, which has none of a company's own."""
    monkeypatch.setattr(certifi, "where", lambda: str(tmp_path / "none"))
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    assert await sub(Tokens(endpoint.settings()), issuer().token()) == "jwt:anna"


async def test_an_endpoint_is_not_asked_without_its_authorities(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    """A file that has none trusts nobody, in place of everyone."""
    wrong = tmp_path / "ca.pem"
    wrong.write_text("none")
    assert await sub(Tokens(endpoint.settings(api_jwt_cafile=wrong)), issuer().token()) == UNKNOWN
    assert endpoint.asked == 0


async def test_an_endpoint_that_is_away_lets_nobody_in(endpoint: Endpoint) -> None:
    """Without keys no token counts."""
    settings = endpoint.settings().model_copy(update={"api_jwt_jwks_url": "http://127.0.0.1:1/"})
    assert await sub(Tokens(settings), issuer().token()) == UNKNOWN
