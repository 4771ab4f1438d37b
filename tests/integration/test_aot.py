"""The AOT cache: made once, used, and never in the way."""

from pathlib import Path

import pytest

from compose import aot, broker, jvm
from compose.jars import Installation


def test_a_start_uses_the_cache(kafka_installation: Installation, tmp_path: Path) -> None:
    """After `ensure`, the command line names the cache."""
    (node,) = broker.prepare(tmp_path, kafka_installation, port=0)
    assert f"-XX:AOTCache={jvm.aot_cache(kafka_installation)}" in node.argv


def test_a_training_that_fails_is_not_tried_again(
    kafka_installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the JVM writes no cache, starts go on without one; nothing is left of it."""
    (tmp_path / "bootstrap.checkpoint").write_bytes(b"")
    (tmp_path / "training-killed").mkdir()
    installation = Installation(tmp_path, kafka_installation.jars, "untrainable")
    monkeypatch.setattr(aot, "WORK_TIMEOUT_S", 0.1)
    aot.ensure(installation)
    assert aot.is_made(installation)
    assert jvm.fast_start(installation) == ()
    assert not [*tmp_path.glob("training-*")]


def test_jars_where_nothing_can_be_written_are_no_obstacle(
    kafka_installation: Installation, tmp_path: Path
) -> None:
    """A cache that came with an image, say: Kafka starts without what would be made there."""
    (tmp_path / "aot.lock").mkdir()  # refuses everybody, root too
    installation = Installation(tmp_path, kafka_installation.jars, "read-only")
    aot.ensure(installation)
    assert jvm.fast_start(installation) == ()
