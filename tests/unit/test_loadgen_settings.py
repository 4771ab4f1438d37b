"""The load generator's settings: names of options and variables, and what goes together."""

import math
import ssl
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compose.cli import app
from detector import rulesfile
from loadgen import trust
from loadgen.settings import LoadgenSettings
from loadgen.verify.settings import VerifySettings
from tests.certificates import Authority
from wire.errors import SettingsError
from wire.settings import load


def test_the_documented_options_are_there() -> None:
    """By exactly these names."""
    said = CliRunner().invoke(app, ["loadgen", "--help"], env={"COLUMNS": "300"}).output
    for option in ("--url", "--target", "--tps", "--duration", "--verify", "--threshold", "--json"):
        assert option in said
    assert "TRANSACTIONS_PER_SECOND" in said


def test_the_tutorial_s_variable_sets_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRANSACTIONS_PER_SECOND, 1000 by default."""
    assert load(LoadgenSettings).transactions_per_second == 1000
    monkeypatch.setenv("TRANSACTIONS_PER_SECOND", "50")
    assert load(LoadgenSettings).transactions_per_second == 50


def test_thresholds_come_from_a_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Separated by spaces."""
    monkeypatch.setenv("LOADGEN_THRESHOLD", "p99<50ms errors<0.1%")
    found = load(LoadgenSettings).loadgen_threshold
    assert [each.text for each in found] == ["p99<50ms", "errors<0.1%"]


@pytest.mark.parametrize("url", ["http://me:s3cret@host", "http://host?a=b", "http://host/#a"])
def test_an_address_is_an_address_alone(url: str) -> None:
    """A password in it would stand in process lists, logs and reports; nor is it told here."""
    with pytest.raises(SettingsError, match=r"LOADGEN_URL=.*HOST\[:PORT\]") as refused:
        load(LoadgenSettings, loadgen_url=url)
    assert "s3cret" not in str(refused.value)


def test_a_duration_of_0_has_no_end() -> None:
    """As `fraudstream up` runs its demo load."""
    assert load(LoadgenSettings, loadgen_duration=0).seconds == math.inf
    assert load(LoadgenSettings).seconds == 60


def test_expecting_nothing_is_a_word() -> None:
    """Or an amount."""
    assert load(LoadgenSettings, loadgen_expect="unknown").loadgen_expect == "unknown"
    assert load(LoadgenSettings, loadgen_expect="500").loadgen_expect == 500


@pytest.mark.parametrize(
    "given",
    [
        {"loadgen_threshold": ("fast",)},
        {"loadgen_threshold": ("lost==0",)},
        {"loadgen_arrivals": "steady"},
        {"loadgen_arrivals": "ramp", "loadgen_duration": 0},
        {"loadgen_speed": 2},
        {"loadgen_url": "gateway"},
        {"loadgen_expect": "some"},
        {"transactions_per_second": 0},
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, object]) -> None:
    """With one line that says what was expected."""
    with pytest.raises(SettingsError):
        load(LoadgenSettings, **given)


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01T00:00:00", "253402300800000"])
def test_a_time_to_verify_from_is_one_of_the_calendar_with_an_offset(since: str) -> None:
    """RFC 3339, Unix milliseconds or earliest."""
    with pytest.raises(SettingsError, match="VERIFY_SINCE"):
        load(VerifySettings, verify_since=since)


def test_an_audit_has_the_duplicates_window_of_the_shipped_rules() -> None:
    """Else it would call a verdict lost, or doubled, that the detector is right about."""
    shipped_ms = rulesfile.load(None).duplicates_ms
    assert load(VerifySettings).verify_duplicates * 1000 == shipped_ms


def test_a_time_to_verify_from_is_read() -> None:
    """Each form."""
    assert load(VerifySettings, verify_since="earliest").verify_since is None
    assert load(VerifySettings, verify_since="1767312000000").verify_since == 1_767_312_000_000
    by_name = load(VerifySettings, verify_since="2026-01-02T01:00:00+01:00")
    assert by_name.verify_since == 1_767_312_000_000


def test_a_gateway_is_trusted_by_the_systems_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company puts its own among them; SSL_CERT_FILE names others, as to all that use OpenSSL."""
    authority = Authority(tmp_path, "company")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    trusting = trust.context(load(LoadgenSettings, loadgen_url="https://127.0.0.1:8000"))
    assert isinstance(trusting, ssl.SSLContext)
    (trusted,) = trusting.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "company"),),)
