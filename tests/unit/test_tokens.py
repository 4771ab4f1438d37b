"""JSON Web Tokens: those of the issuer count, whatever others try (RFC 8725)."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from api.access.principal import MAX_CREDENTIAL_BYTES, Principal
from api.access.settings import AccessSettings
from api.access.tokens import Tokens
from api.errors import CredentialError
from tests.credentials import ALGORITHMS, AUDIENCE, ISSUER, issuer, jwt_settings
from wire.errors import SettingsError
from wire.settings import load

Check = Callable[[str], Principal]


@pytest.fixture
def settings(tmp_path: Path) -> AccessSettings:
    """Take the tests' issuer's tokens."""
    return AccessSettings(**jwt_settings(tmp_path))


@pytest.fixture
def check(settings: AccessSettings) -> Check:
    """Check a token as a request does."""
    tokens = Tokens(settings)
    return lambda token: asyncio.run(tokens.check(token.encode(), time.time()))


def why(check: Check, token: str) -> str:
    """Tell why a token does not count."""
    with pytest.raises(CredentialError) as error:
        check(token)
    return str(error.value)


def encoded(value: object) -> str:
    """Write a part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_stands_for_its_subject(check: Check, algorithm: str) -> None:
    """Signed in any of three ways; with the scopes that it names."""
    found = check(issuer().token(algorithm, scope="stream:fraud other", name="Anna", exp=9e9))
    assert found == Principal("jwt:anna", "Anna", frozenset({"stream:fraud"}), 9e9)


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": "stream:fraud metrics:read"},
        {"scope": None, "scp": "stream:fraud metrics:read"},
        {"scope": None, "scp": ["stream:fraud", "metrics:read", 1]},
    ],
)
def test_scopes_come_in_either_claim(check: Check, claims: dict[str, Any]) -> None:
    """`scope` as OAuth has it, or `scp`, as text or list."""
    assert check(issuer().token(**claims)).scopes == {"stream:fraud", "metrics:read"}


def test_a_token_without_scopes_allows_nothing(check: Check) -> None:
    """It says who someone is, and no more."""
    assert check(issuer().token(scope=None)).scopes == frozenset()


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "not valid"),
        ({"exp": "soon"}, "not valid"),
        ({"nbf": 9e9}, "not valid"),
        ({"iat": 9e9}, "not valid"),
        ({"iss": "https://elsewhere.example"}, "not for this gateway"),
        ({"iss": None}, "not valid"),
        ({"iss": [ISSUER]}, "not"),
        ({"aud": "another-service"}, "not for this gateway"),
        ({"aud": None}, "not valid"),
        ({"sub": None}, "not valid"),
        ({"sub": ""}, "subject"),
        ({"sub": "x" * 257}, "subject"),
        ({"sub": "line\nfeed"}, "subject"),
        ({"scope": {"stream:fraud": True}}, "scopes"),
    ],
)
def test_claims_that_do_not_fit_are_refused(
    check: Check, claims: dict[str, Any], cause: str
) -> None:
    """Expired, not yet good, of another issuer, for another service, or of nobody."""
    assert cause in why(check, issuer().token(**claims))


def test_clocks_may_differ_by_the_leeway(tmp_path: Path) -> None:
    """As long as it is, and not longer; what is remembered ends with it, too."""
    given = jwt_settings(tmp_path) | {"api_jwt_leeway_seconds": 60}
    tokens = Tokens(AccessSettings(**given))
    now = time.time()
    token = issuer().token(exp=int(now) - 30).encode()
    found = asyncio.run(tokens.check(token, now))
    assert found.expires_at == int(now) + 30
    with pytest.raises(CredentialError, match="expired"):
        asyncio.run(tokens.check(token, now + 31))
    with pytest.raises(CredentialError, match="expired"):
        asyncio.run(tokens.check(issuer().token(exp=int(now) - 61).encode(), now))


def test_none_is_no_signature(check: Check) -> None:
    """However it is spelt, with or without something in the signature's place."""
    _, body, signature = issuer().token().split(".")
    for name in ("none", "None", "NONE", "nOnE", "", None, 0, [], {}):
        header = encoded({"alg": name, "typ": "JWT", "kid": "RS256"})
        for end in ("", signature):
            why(check, f"{header}.{body}.{end}")


def test_a_public_key_is_no_secret(check: Check) -> None:
    """HS256 with what everyone can read as its key (CVE-2015-9235), in each form of it."""
    public = issuer().rsa.public_key()
    forms = [
        public.public_bytes(encoding, form)
        for encoding in (Encoding.PEM, Encoding.DER)
        for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1)
    ]
    forms += [issuer().jwks().encode(), json.loads(issuer().jwks())["keys"][0]["n"].encode(), b""]
    body = issuer().token().split(".")[1]
    for algorithm, digest in (("HS256", "sha256"), ("HS512", "sha512")):
        for key_id in ("RS256", "HS256", None):
            head = encoded({"alg": algorithm, "typ": "JWT", "kid": key_id})
            for secret in forms:
                mac = hmac.digest(secret, f"{head}.{body}".encode(), digest)
                why(check, f"{head}.{body}.{encoded(mac)}")


@pytest.mark.parametrize("named", ALGORITHMS)
@pytest.mark.parametrize("used", ALGORITHMS)
def test_the_key_says_which_algorithm(check: Check, named: str, used: str) -> None:
    """A token that names one key, and is signed as another one signs, is refused."""
    if named == used:
        assert check(issuer().token(used)).id == "jwt:anna"
    else:
        assert "not known" in why(check, issuer().token(used, header={"kid": named}))
        head = encoded({"alg": named, "kid": named})
        _, body, signature = issuer().token(used).split(".")
        assert "not valid" in why(check, f"{head}.{body}.{signature}")


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "unknown"},
        {"kid": "../../etc/passwd"},
        {"kid": "' OR 1=1"},
        {"kid": ["RS256"]},
        {"kid": {"a": 1}},
        {"kid": None},
        {"crit": ["b64"], "b64": False},
        {"crit": ["exp"]},
        {"crit": []},
    ],
)
def test_headers_that_are_not_understood_are_refused(check: Check, header: dict[str, Any]) -> None:
    """Ids of keys that there are not, and extensions."""
    _, body, signature = issuer().token().split(".")
    head = encoded({"alg": "RS256", "kid": "RS256"} | header)
    why(check, f"{head}.{body}.{signature}")


def test_a_key_that_a_token_brings_along_is_not_used(check: Check) -> None:
    """Neither by value nor by address (`jwk`, `jku`, `x5u`)."""
    own = rsa.generate_private_key(65537, 2048)
    jwk = RSAAlgorithm.to_jwk(own.public_key(), as_dict=True)
    header = {"jwk": jwk, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}
    assert "not valid" in why(check, issuer().token(key=own, header=header))
    assert "not known" in why(check, issuer().token(key=own, header=header | {"kid": "own"}))


def test_changed_tokens_are_refused(check: Check) -> None:
    """Another body under the signature, another signature, none, or more parts."""
    head, body, signature = issuer().token(scope="").split(".")
    more = issuer().token().split(".")[1]
    for token in (
        f"{head}.{more}.{signature}",
        f"{head}.{body}.{signature[:-8]}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.{signature}",
        f"{head}..{signature}",
        "..",
        "",
    ):
        why(check, token)


def test_huge_and_deep_tokens_are_refused(check: Check) -> None:
    """Before they are read, or wherever reading fails."""
    assert str(MAX_CREDENTIAL_BYTES) in why(check, "x" * (MAX_CREDENTIAL_BYTES + 1))
    for odd in (b"[" * 4000, b'{"alg":' + b"[" * 4000, b"\xff\xfe", b"1e999", b'{"alg":1e999}'):
        why(check, f"{encoded(odd)}.{encoded(odd)}.x")
    for exp in (10**400, -1, True, [], "nan"):
        why(check, issuer().token(exp=exp))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)

_HEADERS = st.fixed_dictionaries({}, optional={
    "alg": st.sampled_from([*ALGORITHMS, "none", "HS256"]) | _JSON,
    "kid": st.sampled_from(ALGORITHMS) | _JSON,
    "typ": _JSON, "crit": _JSON, "b64": _JSON, "zip": _JSON,
})  # fmt: skip


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """Check tokens of the tests' issuer."""
    return Tokens(AccessSettings(**jwt_settings(tmp_path_factory.mktemp("jwks"))))


@given(header=_HEADERS | _JSON, body=_JSON, signature=st.binary(max_size=80))
def test_whatever_is_not_signed_is_refused(
    tokens: Tokens, header: Any, body: Any, signature: bytes
) -> None:
    """Any JSON in a token's place is refused, and nothing fails."""
    token = f"{encoded(header)}.{encoded(body)}.{encoded(signature)}".encode()
    with pytest.raises(CredentialError):
        asyncio.run(tokens.check(token, time.time()))


_NAMES = st.sampled_from(["exp", "nbf", "iat", "iss", "aud", "sub", "scope", "scp", "name", "jti"])


@given(claims=st.dictionaries(_NAMES, _JSON.filter(lambda value: value is not None)))
def test_whatever_is_signed_is_read_or_refused(tokens: Tokens, claims: dict[str, Any]) -> None:
    """Claims of any type are taken only where they make sense, and nothing fails."""
    token = issuer().token("EdDSA", **claims).encode()
    with contextlib.suppress(CredentialError):
        found = asyncio.run(tokens.check(token, time.time()))
        assert found.expires_at is not None
        assert found.expires_at > time.time()
        assert found.id.isprintable()


def test_good_tokens_are_remembered_within_bounds(settings: AccessSettings) -> None:
    """The oldest are forgotten first; new keys forget them all."""
    few = settings.model_copy(update={"api_jwt_remembered": 2})
    tokens = Tokens(few)
    made = [issuer().token("EdDSA", sub=f"s{number}").encode() for number in range(3)]

    async def see(*numbers: int) -> None:
        for number in numbers:
            await tokens.check(made[number], time.time())

    asyncio.run(see(0, 1, 0, 2))
    assert list(tokens._good) == [hashlib.sha256(made[number]).digest() for number in (0, 2)]
    assert few.api_jwt_jwks_file is not None
    few.api_jwt_jwks_file.write_text(issuer().jwks(of=["RS256"]))
    tokens.keys._reload()
    with pytest.raises(CredentialError, match="not known"):
        asyncio.run(see(0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api_jwt_jwks_url": "http://issuer.example/"}, "must be https"),
        ({"api_jwt_jwks_url": "file:///etc/passwd"}, "scheme"),
        ({"api_jwt_issuer": None}, "API_JWT_ISSUER"),
        ({"api_jwt_audience": ""}, "API_JWT_AUDIENCE"),
    ],
)
def test_settings_that_would_let_others_in_are_refused(given: dict[str, Any], message: str) -> None:
    """Keys over a connection that anyone may change; tokens for anyone's service."""
    named = {"api_jwt_issuer": ISSUER, "api_jwt_audience": AUDIENCE}
    url = {"api_jwt_jwks_url": "https://issuer.example/jwks"}
    assert load(AccessSettings, **url, **named).has_tokens
    with pytest.raises(SettingsError, match=message):
        load(AccessSettings, **(url | named | given))
