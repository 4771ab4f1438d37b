"""The detector's rules, read anew while it decides."""

import os
import signal
import threading
from pathlib import Path

import pytest

from detector import rulesfile
from detector.rules import RuleSet
from detector.rulesfile import RulesSource, load
from tests.detecting import (
    DEADLINE_S,
    Read,
    payment,
    produce,
    running,
    settings_for,
    until,
    verdicts,
)
from tests.processes import Programs, environment
from wire.settings import TopicSettings


def amount_rule(limit: str) -> str:
    """Write a rules file with one rule."""
    return f'[[rules]]\nid = "big"\nkind = "amount_limit"\nlimit = {limit}\nweight = 100\n'


async def test_changed_rules_are_put_in_force(
    kafka_settings: TopicSettings, read_committed: Read, tmp_path: Path
) -> None:
    """A change of the rules file shows in the next verdicts; a bad file leaves the rules."""
    file = tmp_path / "rules.toml"
    file.write_text(amount_rule("900"))
    source = RulesSource(file)
    before = source.rules.version
    settings = settings_for(kafka_settings, detector_rules=file, detector_rules_poll_seconds=0.05)
    async with running(settings) as detector:
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 1)
        file.write_text("rules = 1")
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 2)
        file.write_text(amount_rule("100"))
        await until(lambda: detector.rules_version != before)
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 3)
    legit = verdicts(read_committed, kafka_settings, kafka_settings.legit_topic)
    [fraud] = verdicts(read_committed, kafka_settings, kafka_settings.fraud_topic)
    assert [before, before] == [verdict.rules_version for verdict in legit]
    assert detector.rules_version == fraud.rules_version


async def test_a_hang_up_signal_has_the_rules_read_at_once(
    kafka_settings: TopicSettings, read_committed: Read, tmp_path: Path
) -> None:
    """SIGHUP, even where the file's time and size say that nothing has changed."""
    file = tmp_path / "rules.toml"
    file.write_text(amount_rule("900"))
    told = file.stat()
    settings = settings_for(kafka_settings, detector_rules=file, detector_rules_poll_seconds=10)
    programs = Programs(tmp_path)
    try:
        detector = programs.start("-m", "detector", env=environment(settings))
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: len(read_committed(kafka_settings, kafka_settings.legit_topic)) == 1)
        detector.popen.send_signal(signal.SIGHUP)
        await until(lambda: "rules are the same" in detector.output)
        file.write_text(amount_rule("100"))
        os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
        detector.popen.send_signal(signal.SIGHUP)
        await until(lambda: "rules changed" in detector.output)
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: len(read_committed(kafka_settings, kafka_settings.fraud_topic)) == 1)
    finally:
        programs.end()


async def test_rules_are_read_while_transactions_are_decided(
    kafka_settings: TopicSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Long lists take seconds to read: who stood still meanwhile would be put out of the group."""
    file = tmp_path / "rules.toml"
    file.write_text(amount_rule("900"))
    settings = settings_for(kafka_settings, detector_rules=file, detector_rules_poll_seconds=0.01)
    reading, decided = threading.Event(), threading.Event()

    def slowly(path: Path) -> RuleSet:
        reading.set()
        assert decided.wait(DEADLINE_S)
        return load(path)

    async with running(settings) as detector:
        before = detector.rules_version
        monkeypatch.setattr(rulesfile, "load", slowly)
        file.write_text(amount_rule("100"))
        await until(reading.is_set)
        await produce(kafka_settings, payment("500.00"))
        await until(lambda: detector.metrics.records == 1)
        assert (detector.metrics.legit, detector.rules_version) == (1, before)
        decided.set()
        await until(lambda: detector.rules_version != before)
