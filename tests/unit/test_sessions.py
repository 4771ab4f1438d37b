"""Browsers' sessions: the cookie, whose page a request comes from, and where a sign-in leads."""

import base64
import hmac
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.access import origin
from api.access.gate import session_in
from api.access.principal import Principal
from api.access.session import MAX_COOKIE_BYTES, Sessions
from api.access.settings import AccessSettings
from api.access.signin import local
from api.addresses import is_loopback, without_port
from api.errors import CredentialError
from tests.credentials import MADE

NOW = MADE.timestamp()
KEY = "c4n4ry-of-32-characters-or-more-!"
ANNA = Principal("key:abc", "Anna", frozenset({"stream:fraud"}))


def sessions(**given: object) -> Sessions:
    """Make and read sessions with a key."""
    return Sessions(AccessSettings(**({"api_session_key": KEY} | given)))


def test_every_process_with_the_key_reads_it() -> None:
    """Who signed in, and until when; no process remembers it."""
    value, life = sessions().issue(ANNA, NOW)
    found = sessions().read(value.encode(), NOW)
    assert (found.id, found.name, found.scopes) == (ANNA.id, ANNA.name, ANNA.scopes)
    assert found.expires_at == NOW + life == NOW + 43_200
    for other in ("another key, also of 32 characters", None):
        with pytest.raises(CredentialError):
            sessions(api_session_key=other).read(value.encode(), NOW)


def test_it_ends_with_its_credential() -> None:
    """Or earlier, after its own life."""
    for ends, life in ((NOW + 30, 30), (NOW + 1e9, 600), (None, 600)):
        of = Principal("jwt:anna", "Anna", frozenset(), ends)
        made = sessions(api_session_seconds=600)
        value, told = made.issue(of, NOW)
        assert told == life
        assert made.read(value.encode(), NOW + life - 1).id == "jwt:anna"
        with pytest.raises(CredentialError, match="over"):
            made.read(value.encode(), NOW + life)


def test_the_largest_fits_into_a_cookie() -> None:
    """The longest subject and name, in letters that take most room."""
    of = Principal("jwt:" + "\U0001f600" * 256, "\U0001f600" * 100, ANNA.scopes)
    value, _ = sessions().issue(of, NOW)
    assert len(value) < MAX_COOKIE_BYTES - 200
    assert sessions().read(value.encode(), NOW).id == of.id


@given(st.data())
def test_a_changed_one_is_refused(data: st.DataObject) -> None:
    """Whichever bit is changed."""
    made = sessions()
    raw = bytearray(base64.urlsafe_b64decode(made.issue(ANNA, NOW)[0] + "=="))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CredentialError):
        made.read(base64.urlsafe_b64encode(raw).rstrip(b"="), NOW)


@given(st.binary(max_size=200))
@example(b"x" * (MAX_COOKIE_BYTES + 1))
@example("é".encode())
def test_whatever_is_sent_is_refused(value: bytes) -> None:
    """Any bytes are no session, and no failure."""
    with pytest.raises(CredentialError):
        sessions().read(value, NOW)


def test_over_https_only_the_prefixed_cookie_counts() -> None:
    """A neighbour under the same domain can set the other one, and sign someone in as itself."""
    cookies = b"a=b; fraudstream=theirs; __Host-fraudstream=ours"
    assert session_in("https", cookies) == b"ours"
    assert session_in("https", b"fraudstream=theirs") is None
    assert session_in("http", b"fraudstream=ours") == b"ours"
    assert session_in("http", b"x" * 20_000 + b"; fraudstream=ours") is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, True),
        ({"sec-fetch-site": "same-site", "origin": "https://gateway:8000"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "https://gateway:8000"}, True),
        ({"origin": "http://gateway:8000"}, False),
        ({"origin": "https://gateway"}, False),
        ({"origin": "https://gateway:8000.evil.example"}, False),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({}, False),
    ],
)
def test_a_request_of_another_site_is_known(headers: dict[str, str], expected: bool) -> None:
    """By what browsers say and pages can't; a request that says nothing is not trusted."""
    assert origin.is_own("https", {"host": "gateway:8000"} | headers) is expected


def test_without_a_host_nothing_is_our_own() -> None:
    """HTTP/1.0 has none."""
    assert origin.is_own("https", {"origin": "https://"}) is False


@pytest.mark.parametrize(
    "target", ["/", "/stream/fraud?account=a%2Fb&since=1", "/stream/all?x=//y", "/a:b"]
)
def test_a_sign_in_leads_on(target: str) -> None:
    """To the page that was asked for."""
    assert local(target) == target


_EVIL = (
    "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
    "/\n/evil.example", "https://evil.example", "javascript:alert(1)", "", "stream", " /", "/ x",
    "/é", "/\x00", "/%0d%0aSet-Cookie:x\r\nSet-Cookie: y", "/sign-in", "/sign-out?x",
    "/" + "x" * 3000,
)  # fmt: skip


@pytest.mark.parametrize("target", _EVIL)
def test_a_sign_in_leads_nowhere_else(target: str) -> None:
    """Not to another host, in any spelling that a browser would take for one."""
    assert local(target) == "/"


@given(st.text("/\\.:@?#%ae \t\r\n", max_size=12))
def test_where_it_leads_is_always_here(target: str) -> None:
    """Resolved as a browser resolves it, the host stays."""
    seen = local(target).translate(dict.fromkeys(map(ord, "\t\r\n"))).replace("\\", "/")
    assert urlsplit(urljoin("https://gateway/sign-in", seen)).netloc == "gateway"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("localhost:8000", True),
        ("127.0.0.1", True),
        ("[::1]:8000", True),
        ("[::1", True),
        ("[", False),
        ("gateway.example:8000", False),
        ("localhost@gateway.example", False),
        (":8000", False),
        ("", False),
    ],
)
def test_a_host_header_names_this_machine(header: str, expected: bool) -> None:
    """With a port or without, and whatever else is sent in its place."""
    assert is_loopback(without_port(header)) is expected


def test_a_session_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with it; what is compared is the whole code."""
    compared: list[int] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda a, b: compared.append(len(b)) or compare(a, b)
    )
    value, _ = sessions().issue(ANNA, NOW)
    for wrong in ("", "AAAA", value[:-4], f"A{value[1:]}"):
        with pytest.raises(CredentialError):
            sessions().read(wrong.encode(), NOW)
    assert compared == [32] * 4


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.168.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_known(host: str, expected: bool) -> None:
    """What only this machine can reach."""
    assert is_loopback(host) is expected
