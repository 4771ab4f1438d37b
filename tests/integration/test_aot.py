"""The AOT cache: made once, used, and never in the way."""

from pathlib import Path

import pytest

from compose import aot, broker, jars, jvm
from compose.jars import Installation


def test_a_start_uses_the_cache(kafka_installation: Installation, tmp_path: Path) -> None:
    """After `ensure`, the command line names the cache."""
    (node,) = broker.prepare(tmp_path, kafka_installation, port=0)
    assert f"-XX:AOTCache={jvm.aot_cache(kafka_installation)}" in node.argv


def test_a_training_that_fails_is_not_tried_again(
    kafka_installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JVM that writes no cache is waited for once; starts go on without."""
    (tmp_path / "bootstrap.checkpoint").write_bytes(
        (kafka_installation.home / "bootstrap.checkpoint").read_bytes()
    )
    installation = Installation(tmp_path, kafka_installation.jars, "untrainable")
    monkeypatch.setattr(jvm, "JAVA", Path("/nonexistent/java"))
    monkeypatch.setattr(broker, "READY_TIMEOUT_S", 0.2)
    aot.ensure(installation)
    assert aot.is_made(installation)
    assert jvm.fast_start(installation) == ()
    assert jars.Lock.read().edition != installation.edition
