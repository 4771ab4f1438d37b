"""Settings: where they come from, what wins, and that an error names the variable."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wire.errors import SettingsError
from wire.options import command
from wire.settings import KafkaSettings, TopicSettings, load


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run a command made from TopicSettings; give its output and exit code."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()

    def show(settings: TopicSettings) -> int:
        """Show."""
        typer.echo(f"{settings.partitions} {settings.transactions_topic}")
        return 0

    app.command()(command(TopicSettings, show))

    def invoke(*args: str, **env: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, args, env={"COLUMNS": "200", **env})
        return result.exit_code, result.stdout.strip(), result.stderr.strip()

    return invoke


def test_an_option_beats_the_environment_which_beats_the_file(run, tmp_path: Path) -> None:
    """Options, then environment, then .env, then the default."""
    default = "queueing.transactions"
    assert run() == (0, f"4 {default}", "")
    (tmp_path / ".env").write_text("PARTITIONS=5\nTRANSACTIONS_TOPIC=from.file\n")
    assert run() == (0, "5 from.file", "")
    assert run(PARTITIONS="6") == (0, "6 from.file", "")
    assert run("--partitions", "7", PARTITIONS="6") == (0, "7 from.file", "")


def test_an_error_names_variable_value_and_expectation(run) -> None:
    """A bad setting is one line and exit code 2."""
    code, _, error = run(PARTITIONS="many")
    assert (code, error.count("\n")) == (2, 0)
    assert error.startswith("error: PARTITIONS='many': ")
    _, _, error = run(KAFKA_BROKER_URL="kafka")
    assert error.startswith("error: KAFKA_BROKER_URL='kafka': expected HOST:PORT")
    _, _, error = run(LEGIT_TOPIC="t", FRAUD_TOPIC="t")
    assert error.startswith("error: TRANSACTIONS_TOPIC, LEGIT_TOPIC, FRAUD_TOPIC and DEAD_LETTER_")


def test_a_file_of_settings_that_is_no_text_is_one_line(run, tmp_path: Path) -> None:
    """Where in it is told, and nothing of what it holds."""
    (tmp_path / ".env").write_bytes(b"TRANSACTIONS_TOPIC=caf\xe9\n")
    assert run() == (2, "", "error: .env is no UTF-8: invalid continuation byte at byte 22")


def test_a_file_that_can_t_even_be_looked_for_is_one_line() -> None:
    """It lies where we may not look, say, or its name is longer than any: no traceback."""
    with pytest.raises(SettingsError, match="x" * 300):
        load(KafkaSettings, kafka_ssl_cafile="x" * 300)


def test_help_shows_variable_and_default(run) -> None:
    """--help tells each option's variable and default."""
    _, text, _ = run("--help")
    assert "PARTITIONS" in text
    assert "TRANSACTIONS_TOPIC" in text
    assert "queueing.transactions" in text


def test_secrets_are_no_options_and_are_not_shown(run) -> None:
    """A password is read from the environment only, and no error repeats it."""
    _, text, _ = run("--help")
    assert "password" not in text.lower()
    settings = load(KafkaSettings, kafka_sasl_password="hunter2")
    assert "hunter2" not in repr(settings)


def test_a_terminal_without_all_characters_gets_the_help() -> None:
    """What its encoding lacks, a letter of a path say, is escaped."""
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "XDG_DATA_HOME": "/home/ž"}
    argv = (sys.executable, "-m", "compose", "broker", "--help")
    done = subprocess.run(argv, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"/home/\\u017e/fraudstream" in done.stdout


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    ],
)
def test_logs_have_colours_where_they_are_wanted(variables: dict[str, str], coloured: bool) -> None:
    """On a terminal that can show them, unless NO_COLOR says otherwise (no-color.org)."""
    code = (
        "import logging; from wire import logs, settings;"
        "logs.configure(settings.load(settings.Settings), 'x'); logging.warning('told')"
    )
    others = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    terminal, slave = pty.openpty()
    try:
        subprocess.run(
            (sys.executable, "-c", code), env=others | variables, stderr=slave, check=True
        )
        line = os.read(terminal, 4_096)
    finally:
        os.close(slave)
        os.close(terminal)
    assert b"told" in line
    assert (b"\x1b[" in line) is coloured


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "x" * 250])
def test_a_topic_name_that_kafka_refuses_is_refused_at_the_start(name: str) -> None:
    """Kafka's own limits on names are checked before it is asked."""
    with pytest.raises(SettingsError, match="TRANSACTIONS_TOPIC"):
        load(KafkaSettings, transactions_topic=name)


@pytest.mark.parametrize("name", ["legit_topic", "fraud_topic", "dead_letter_topic"])
def test_no_topic_has_two_uses(name: str) -> None:
    """A detector would read what it writes; others would wait for a fourth topic for ever."""
    with pytest.raises(SettingsError, match="four topics"):
        load(KafkaSettings, **{name: "queueing.transactions"})


def test_settings_are_frozen() -> None:
    """What was read once stays as it was read."""
    with pytest.raises(ValueError, match="frozen"):
        load(KafkaSettings).legit_topic = "other"  # type: ignore[misc]


@pytest.mark.parametrize("brokers", ["[::1]:9092", "a:1,[2001:db8::7]:2,127.0.0.1:3"])
def test_brokers_may_have_ipv6_addresses(brokers: str) -> None:
    """In brackets, as in a URL."""
    assert load(KafkaSettings, kafka_broker_url=brokers).kafka_broker_url == brokers


@pytest.mark.parametrize(
    "brokers",
    [
        "::1:9092",
        "[::1]",
        "[::1:9092",
        "a:1,",
        "[a,b]:1",
        "a",
        "a:0",
        "a:65536",
        "a:1, b:2",
        "PLAINTEXT://a:1",
    ],
)
def test_what_is_no_address_of_a_broker_is_refused(brokers: str) -> None:
    """With a line that says what one is; IPv6 without brackets could have another port."""
    with pytest.raises(SettingsError, match=r"KAFKA_BROKER_URL=.* expected HOST:PORT"):
        load(KafkaSettings, kafka_broker_url=brokers)


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ({"kafka_sasl_mechanism": "PLAIN"}, "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"),
        (
            {"kafka_sasl_mechanism": "OAUTHBEARER", "kafka_oauth_token_url": "http://t"},
            "KAFKA_OAUTH_CLIENT_ID and KAFKA_OAUTH_CLIENT_SECRET",
        ),
    ],
)
def test_what_is_needed_to_sign_in_is_asked_for(given: dict[str, Any], needs: str) -> None:
    """Settings that can't work are refused before anything starts."""
    with pytest.raises(SettingsError, match=needs):
        load(KafkaSettings, kafka_security_protocol="SASL_SSL", **given)
