"""The edge's pure parts: hosts, addresses, connections counted, ids, settings."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from api import app
from api.addresses import is_loopback
from api.edge import headers, hosts, requestid
from api.edge.addresses import UNKNOWN, Networks, counted
from api.edge.clients import address_of
from api.edge.connections import Connections
from api.edge.limits import Limits
from api.edge.settings import EdgeSettings
from api.problems import OVERLOADED, TOO_MANY
from api.settings import ApiSettings
from wire.errors import SettingsError
from wire.settings import load


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("LOCALHOST.", True),
        ("a.localhost:1", True),
        ("127.0.0.1:8000", True),
        ("10.1.2.3", True),
        ("[::1]:8000", True),
        ("[fe80::1]", True),
        ("payments.example.com", True),
        ("Payments.Example.com.:443", True),
        ("a.b.example.org", True),
        ("example.org", False),
        ("notexample.org", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example:127.0.0.1", False),
        ("evil.example@localhost", False),
        ("127.0.0.1.evil.example", False),
        ("1.2.3", False),
        ("[::1", False),
        ("[localhost]", False),
        ("", False),
        ("localhost, evil.example", False),
    ],
)
def test_a_host_is_ours_or_not(host: str, *, answered: bool) -> None:
    """Our names with any port, names below a wildcard, localhost, addresses; nothing like them."""
    ours = hosts.Hosts(("payments.example.com", "*.example.org"))
    for _ in range(2):  # the second time from memory
        assert ours.allow([(b"accept", b"*/*"), (b"host", host.encode())]) is answered
    assert ours.allow([(b"host", b"localhost")])


def test_where_hosts_are_checked() -> None:
    """On loopback always, elsewhere where names are set, and nowhere with a star."""
    assert hosts.served(None, on_loopback=False) is None
    assert hosts.served(("*",), on_loopback=True) is None
    assert hosts.served(None, on_loopback=True) is not None
    assert hosts.served(("a.example",), on_loopback=False) is not None


@given(st.text(max_size=300))
def test_any_host_has_an_answer(host: str) -> None:
    """Whatever it is, it is ours or not."""
    given_host = host.encode("utf-8", "surrogateescape" if host.isprintable() else "replace")
    assert hosts.Hosts(()).allow([(b"host", given_host)]) in (True, False)


@pytest.mark.parametrize(
    ("address", "as_one"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("<script>", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_what_counts_as_one_client(address: str, as_one: str) -> None:
    """An IPv4 address; of an IPv6 address the prefix that its owner has whole."""
    assert counted(address) == as_one


def test_networks() -> None:
    """Addresses and networks, of both families, mapped ones too; and no nonsense."""
    ours = Networks(("10.0.0.0/8", "::1", "192.0.2.1"))
    assert [each in ours for each in ("10.9.9.9", "::1", "192.0.2.1", "::ffff:10.0.0.1")] == [
        True
    ] * 4
    assert [each in ours for each in ("11.0.0.1", "::2", "x", "")] == [False] * 4


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("10.1.2.3", "203.0.113.9"),
        ("::ffff:10.1.2.3", "203.0.113.9"),
        ("::ffff:192.0.2.1", "203.0.113.9"),
        ("2001:db8::1", "203.0.113.9"),
        ("::ffff:192.0.2.2", "192.0.2.2"),
        ("::ffff:11.1.2.3", "11.1.2.3"),
        ("2001:db8::2", "2001:db8::/64"),
    ],
)
async def test_a_proxy_is_trusted_whatever_the_socket_calls_it(peer: str, client: str) -> None:
    """One socket for IPv4 and IPv6 gives an IPv4 address in the form of an IPv6 one."""
    found = []

    async def inner(scope: Scope, _receive: Receive, _send: Send) -> None:
        found.append(address_of(scope))

    proxies = ("10.0.0.0/8", "192.0.2.1", "2001:db8::1")
    settings = ApiSettings(api_trusted_proxies=",".join(proxies))
    application = app.create(settings)
    application._within = inner
    application.enclose()
    headers = [(b"host", b"localhost"), (b"x-forwarded-for", b"198.51.100.1, 203.0.113.9")]
    scope = {"type": "http", "client": (peer, 1), "headers": headers, "scheme": "http"}
    await application(scope, Receive, Send)
    assert found == [client]


def test_loopback() -> None:
    """Of what is listened on; any other address is none."""
    assert [is_loopback(each) for each in ("127.0.0.1", "127.9.9.9", "::1")] == [True] * 3
    assert [is_loopback(each) for each in ("192.0.2.1", "::", "10.0.0.1", "a")] == [False] * 4


def test_connections_are_counted_in_all_and_by_address() -> None:
    """One too many is refused and named, and counted out again it is not; proxies are exempt."""
    counting = Connections(5, 2, ("192.0.2.0/24",))
    assert [counting.enter("203.0.113.9") for _ in range(2)] == [None, None]
    refused = counting.enter("203.0.113.9")
    assert refused is not None
    assert (refused.kind, refused.extra["limit"]) == (TOO_MANY, "api_connections_per_address")
    counting.leave("203.0.113.9")
    assert counting.enter("203.0.113.9") is None
    assert [counting.enter("192.0.2.1") for _ in range(3)] == [None] * 3
    refused = counting.enter("192.0.2.1")
    assert refused is not None
    assert (refused.kind, refused.extra["limit"]) == (OVERLOADED, "api_connections")
    assert counting.refused == {"api_connections": 1, "api_connections_per_address": 1}
    assert counting.open == 5
    for address in ("203.0.113.9",) * 2 + ("192.0.2.1",) * 3:
        counting.leave(address)
    assert (counting.open, dict(counting._addresses)) == (0, {})


@pytest.mark.parametrize("given_id", [b"a", b"f3c-9_~.:+/=@", b"x" * 128])
def test_a_clients_id_is_taken(given_id: bytes) -> None:
    """As it is, if it may stand in a log line."""
    assert requestid.taken(given_id) == given_id.decode()


@given(st.binary(max_size=200))
def test_an_id_is_always_safe(given_id: bytes) -> None:
    """Whatever is sent: no spaces, quotes, control characters, nothing long."""
    assert re.fullmatch(r"[A-Za-z0-9._~:+/=@-]{1,128}", requestid.taken(given_id))


def test_ids_differ() -> None:
    """Each request has its own."""
    assert len({requestid.made() for _ in range(1_000)}) == 1_000


def test_https_is_told_of_where_it_is_served() -> None:
    """And for as long as is set."""
    name = "Strict-Transport-Security"
    assert name not in dict(headers.of_every_answer(EdgeSettings(), tls=False))
    told = dict(headers.of_every_answer(EdgeSettings(api_hsts_seconds=60), tls=True))
    assert told == {"X-Content-Type-Options": "nosniff", name: "max-age=60"}
    assert name not in dict(headers.of_every_answer(EdgeSettings(api_hsts_seconds=0), tls=True))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_trusted_proxies", "proxy.example.com"),
        ("api_trusted_proxies", "10.0.0.1/8"),
        ("api_trusted_proxies", "*"),
        ("api_allowed_hosts", "https://a.example"),
        ("api_allowed_hosts", "a.example:8000"),
        ("api_allowed_hosts", "a.*"),
        ("api_cors_origins", "a.example"),
        ("api_cors_origins", "https://a.example/path"),
        ("api_cors_origins", "null"),
        ("limit_address_rate", "-1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name: str, value: str) -> None:
    """The error names the variable."""
    with pytest.raises(SettingsError, match=name.upper()):
        load(EdgeSettings, **{name: value})


def test_lists_are_read_as_people_write_them() -> None:
    """With spaces, capitals and a comma too many."""
    settings = EdgeSettings(
        api_trusted_proxies="10.0.0.0/8, ::1,",
        api_allowed_hosts="A.example,*.b.example",
        api_cors_origins="https://App.example:8443 , http://localhost:3000",
    )
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    assert settings.allowed_hosts == ("a.example", "*.b.example")
    assert settings.cors_origins == ("https://app.example:8443", "http://localhost:3000")
    assert EdgeSettings().allowed_hosts is None


def test_failed_sign_ins_have_a_limit_of_their_own() -> None:
    """Too many from one address are told so, and nobody else's are."""
    now = 0.0
    limits = Limits(EdgeSettings(limit_failure_burst=2, limit_failure_rate=0.5), lambda: now)
    here, there = {"client": ("203.0.113.9", 1)}, {"client": ("203.0.113.8", 1)}
    assert [limits.failed(here), limits.failed(here)] == [None, None]
    refused = limits.failed(here)
    assert refused is not None
    assert (refused.kind, refused.headers["Retry-After"]) == (TOO_MANY, "2")
    assert limits.failed(there) is None
    now = 2.0
    assert limits.failed(here) is None
    assert limits.refused == {"failure": 1}
