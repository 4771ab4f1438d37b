"""The audit log: one line an event, in a file of its own, through rotation and floods."""

import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from wire import audit, logs
from wire.audit import FLOOD_BURST, Audit, AuditSettings, Event
from wire.errors import AuditError


def lines(path: Path) -> list[dict[str, object]]:
    """Read a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_a_line_of_json(tmp_path: Path) -> None:
    """With time, part and who; what is not there is left out."""
    path = tmp_path / "audit.log"
    log = Audit("api", path)
    token = logs.request_id.set("r-1")
    log.record(Event.STREAM_OPENED, principal="key-7", address="192.0.2.1", filters=["account"])
    logs.request_id.reset(token)
    log.record(Event.KEY_REVOKED, principal=None, key="key-7")
    log.close()
    opened, revoked = lines(path)
    assert str(opened.pop("time")).endswith("+00:00")
    assert opened == {
        "event": "stream-opened",
        "part": "api",
        "principal": "key-7",
        "address": "192.0.2.1",
        "request_id": "r-1",
        "filters": ["account"],
    }
    assert set(revoked) == {"time", "event", "part", "key"}


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Made with mode 0600; one that is there is appended to."""
    path = tmp_path / "audit.log"
    for _ in range(2):
        log = Audit("api", path)
        log.record(Event.KEYS_RELOADED)
        log.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(lines(path)) == 2


def test_a_rotated_file_is_made_anew(tmp_path: Path) -> None:
    """Moved or removed, with or without another in its place; nothing is lost."""
    path, moved = tmp_path / "audit.log", tmp_path / "audit.log.1"
    log = Audit("api", path)
    log.record(Event.KEYS_RELOADED)
    path.rename(moved)
    log.record(Event.KEYS_RELOADED)
    path.unlink()
    path.touch()
    log.record(Event.KEY_CREATED)
    assert len(lines(moved)) == 1
    assert [line["event"] for line in lines(path)] == ["key-created"]
    log.close()


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Each line is one append: those of two writers stay whole."""
    path = tmp_path / "audit.log"
    both = [Audit("api", path), Audit("detector", path)]
    for _ in range(50):
        for log in both:
            log.record(Event.RULES_CHANGED, file="x" * 500)
    assert [line["part"] for line in lines(path)] == ["api", "detector"] * 50
    for log in both:
        log.close()


def test_a_flood_is_counted(tmp_path: Path) -> None:
    """From one address only so many lines; then one says how many there were. Others' are there."""
    path = tmp_path / "audit.log"
    now = 0.0
    log = Audit("api", path, lambda: now)
    for _ in range(1_000):
        log.record(Event.DENIED, address="192.0.2.1")
    log.record(Event.DENIED, address="192.0.2.2")
    assert len(lines(path)) == FLOOD_BURST + 1
    now = 1.0
    log.record(Event.DENIED, address="192.0.2.1")
    log.record(Event.DENIED, address="192.0.2.1")
    log.close()
    assert [line.get("unwritten") for line in lines(path)[-2:]] == [1_000 - FLOOD_BURST, 1]


def test_without_a_file_it_goes_to_the_ordinary_log() -> None:
    """Under a logger of its own."""
    with capture_logs() as logged:
        audit.opened(AuditSettings(audit_log="-"), "api").record(Event.SIGNED_IN, principal="key-7")
    assert logged == [{"event": "signed-in", "log_level": "info", "principal": "key-7"}]


SAYING: Final = """
from wire import audit, logs
settings = audit.AuditSettings()
logs.configure(settings, "api")
audit.opened(settings, "api").record(audit.Event.SIGNED_IN, principal="key-7")
audit.log.warning("anything else")
"""


@pytest.mark.parametrize(
    ("where", "told"), [("-", ["signed-in"]), ("", ["signed-in"]), (os.devnull, [])]
)
def test_no_log_level_hides_it(where: str, told: list[str]) -> None:
    """However little else the ordinary log has; to do without is said by a file that keeps none."""
    environment = {**os.environ, "LOG_LEVEL": "error", "LOG_FORMAT": "json", "AUDIT_LOG": where}
    argv = (sys.executable, "-c", SAYING)
    said = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stderr
    assert [json.loads(line)["event"] for line in said.splitlines()] == told


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """At the start, with the variable and the cause."""
    missing = tmp_path / "none" / "audit.log"
    with pytest.raises(AuditError, match=r"AUDIT_LOG=.*none/audit.log: No such file"):
        audit.opened(AuditSettings(audit_log=str(missing)), "api")


def test_what_cannot_be_written_is_logged(tmp_path: Path) -> None:
    """A disk that fails does not fail what is being recorded, and the line is not lost."""
    folder = tmp_path / "logs"
    folder.mkdir()
    path = folder / "audit.log"
    log = Audit("api", path)
    path.unlink()
    folder.rmdir()
    with capture_logs() as logged:
        log.record(Event.KEY_CREATED, key="key-7")
    assert [(line["event"], line["audit"]["key"]) for line in logged] == [
        ("audit log not written", "key-7")
    ]
    folder.mkdir()
    log.record(Event.KEY_CREATED, key="key-8")
    assert [line["key"] for line in lines(path)] == ["key-8"]
    log.close()


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    """Where the disk takes half of a line, the whole is logged, and the next one begins anew."""
    path = tmp_path / "audit.log"
    log = Audit("api", path)
    log.record(Event.KEY_CREATED, key="key-7")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with capture_logs() as logged:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
        try:
            log.record(Event.KEY_CREATED, key="key-8")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.record(Event.KEY_CREATED, key="key-9")
    log.close()
    assert [line["audit"]["key"] for line in logged] == ["key-8"]
    first, half, last = path.read_text().splitlines()
    assert len(half) == 20
    assert [json.loads(line)["key"] for line in (first, last)] == ["key-7", "key-9"]
