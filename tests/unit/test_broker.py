"""The embedded Kafka's preparation: command lines, properties and formatted storage."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from compose import aot, broker, storage
from compose.broker import BrokerNode
from compose.errors import BrokerError
from compose.jars import Installation
from wire.errors import BrokerUnreachableError


@pytest.fixture
def kafka(tmp_path: Path) -> Installation:
    """An installation whose bootstrap records are made already: no JVM is needed."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "bootstrap.checkpoint").write_bytes(b"feature levels")
    return Installation(home, (home / "a.jar", home / "b.jar"), "example")


def test_the_command_line_names_kafka(kafka: Installation, tmp_path: Path) -> None:
    """An operator finds the broker by `kafka.Kafka`, followed by its properties file."""
    (node,) = broker.prepare(tmp_path / "data", kafka, port=0)
    assert node.argv[-2:] == ("kafka.Kafka", str(tmp_path / "data/node-1.properties"))
    assert f"{kafka.jars[0]}:{kafka.jars[1]}" in node.argv


def test_the_aot_cache_is_used_only_where_there_is_one(kafka: Installation, tmp_path: Path) -> None:
    """No flag names a cache that was not made."""
    (node,) = broker.prepare(tmp_path / "data", kafka, port=0)
    assert not any("AOTCache" in argument for argument in node.argv)


@pytest.mark.parametrize(
    ("brokers", "replicas", "in_sync"), [(1, "1", "1"), (3, "3", "2")], ids=["one", "three"]
)
def test_replication_follows_the_broker_count(
    kafka: Installation, tmp_path: Path, brokers: int, replicas: str, in_sync: str
) -> None:
    """One broker keeps one replica; three keep three, two of them in sync."""
    nodes = broker.prepare(tmp_path / "data", kafka, brokers=brokers, port=0)
    for node in nodes:
        properties = _properties(tmp_path / f"data/node-{node.node_id}.properties")
        assert properties["default.replication.factor"] == replicas
        assert properties["transaction.state.log.replication.factor"] == replicas
        assert properties["offsets.topic.replication.factor"] == replicas
        assert properties["min.insync.replicas"] == in_sync
        assert properties["transaction.state.log.min.isr"] == in_sync
        assert properties["controller.quorum.voters"].count("@") == brokers
        assert properties["node.id"] == str(node.node_id)


@pytest.mark.parametrize("brokers", [1, 3])
def test_any_ports_are_none_that_connections_take(
    kafka: Installation, tmp_path: Path, brokers: int
) -> None:
    """A node that is started again finds its ports free, the controllers' too."""
    broker.prepare(tmp_path / "data", kafka, brokers=brokers, port=0)
    properties = _properties(tmp_path / "data/node-1.properties")
    named = properties["listeners"] + "," + properties["controller.quorum.voters"]
    ports = [int(port) for port in re.findall(r":(\d+)", named)]
    assert len(ports) == 2 + brokers
    assert all(20_000 <= port < 32_000 for port in ports)


def test_a_port_of_choice_is_kept(kafka: Installation, tmp_path: Path) -> None:
    """Brokers take the ports from the given one on; the controllers' lie above."""
    port = _three_free_ports()
    nodes = broker.prepare(tmp_path / "data", kafka, brokers=3, port=port)
    assert broker.bootstrap(nodes) == f"127.0.0.1:{port},127.0.0.1:{port + 1},127.0.0.1:{port + 2}"
    voters = _properties(tmp_path / "data/node-1.properties")["controller.quorum.voters"]
    assert all(int(found) > port + 2 for found in re.findall(r":(\d+)", voters))


def test_a_port_in_use_is_named(kafka: Installation, tmp_path: Path) -> None:
    """Someone else's port ends in an error that names it, with nothing made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"can't listen on 127.0.0.1:{port}: "):
            broker.prepare(tmp_path / "data", kafka, port=port)
    assert not (tmp_path / "data").exists()


def test_extra_properties_win(kafka: Installation, tmp_path: Path) -> None:
    """A property given by the caller replaces ours."""
    extra = {"num.io.threads": "3", "further.setting": "on"}
    broker.prepare(tmp_path / "data", kafka, port=0, extra=extra)
    assert extra.items() <= _properties(tmp_path / "data/node-1.properties").items()


def test_storage_is_formatted_once(kafka: Installation, tmp_path: Path) -> None:
    """A second start finds cluster and directory as they were."""
    (first,) = broker.prepare(tmp_path / "data", kafka, port=0)
    kept = _storage(first)
    (second,) = broker.prepare(tmp_path / "data", kafka, port=0)
    assert _storage(second) == kept
    assert (first.log_dir / "bootstrap.checkpoint").read_bytes() == b"feature levels"


def test_a_format_that_takes_too_long_is_told(
    kafka: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, as all that is wrong with a start; nothing is left but a lock."""
    (kafka.home / "bootstrap.checkpoint").unlink()
    monkeypatch.setattr("compose.storage.FORMAT_TIMEOUT_S", 0.001)
    with pytest.raises(BrokerError, match=r"did not format its storage within 0\.001 s"):
        broker.prepare(tmp_path / "data", kafka, port=0)
    assert [path.name for path in kafka.home.iterdir()] == ["format.lock"]


def test_a_cache_that_cannot_be_written_is_told(kafka: Installation, tmp_path: Path) -> None:
    """With its place and the cause."""
    gone = kafka._replace(home=tmp_path / "gone")
    with pytest.raises(BrokerError, match=r"can't write to .*gone: No such file or directory"):
        broker.prepare(tmp_path / "data", gone, port=0)


def test_nodes_share_the_cluster_only(kafka: Installation, tmp_path: Path) -> None:
    """Three nodes have one cluster id, and an id and a directory id of their own."""
    nodes = broker.prepare(tmp_path / "data", kafka, brokers=3, port=0)
    meta = [_storage(node) for node in nodes]
    assert len({one["cluster.id"] for one in meta}) == 1
    assert [one["node.id"] for one in meta] == ["1", "2", "3"]
    assert len({one["directory.id"] for one in meta}) == 3


def test_what_killed_preparations_left_is_removed(
    kafka: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next ones: a cache does not fill up with what nobody looks at any more."""
    (kafka.home / "bootstrap.checkpoint").unlink()
    program = f"""
        import os
        from pathlib import Path
        from compose import aot, storage
        from compose.jars import Installation
        storage._format = aot._train = lambda *_: os._exit(9)
        for prepare in (storage._bootstrap_checkpoint, aot.ensure):
            if os.fork() == 0:
                prepare(Installation(Path({str(kafka.home)!r}), (), "example"))
            assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
    """
    subprocess.run([sys.executable, "-c", dedent(program)], check=True)
    assert len(directories(kafka.home)) == 2

    def done(_kafka: Installation, directory: Path) -> Path:
        (directory / "made").touch()
        return directory / "made"

    monkeypatch.setattr(storage, "_format", done)
    monkeypatch.setattr(aot, "_train", done)
    storage._bootstrap_checkpoint(kafka)
    aot.ensure(kafka)
    assert directories(kafka.home) == []


def directories(home: Path) -> list[Path]:
    """Give the directories in a home."""
    return [path for path in home.iterdir() if path.is_dir()]


def test_an_interrupted_format_is_finished(kafka: Installation, tmp_path: Path) -> None:
    """A node directory without its identity gets one, of the same cluster."""
    nodes = broker.prepare(tmp_path / "data", kafka, brokers=3, port=0)
    cluster = _storage(nodes[0])["cluster.id"]
    (nodes[2].log_dir / "meta.properties").unlink()
    nodes = broker.prepare(tmp_path / "data", kafka, brokers=3, port=0)
    assert _storage(nodes[2])["cluster.id"] == cluster


def test_data_of_another_broker_count_is_refused(kafka: Installation, tmp_path: Path) -> None:
    """Three brokers' data is not opened by one."""
    broker.prepare(tmp_path / "data", kafka, brokers=3, port=0)
    with pytest.raises(BrokerError, match=r"was made with brokers=3, not 1: give another --da"):
        broker.prepare(tmp_path / "data", kafka, port=0)


def test_data_of_another_kafka_is_refused(kafka: Installation, tmp_path: Path) -> None:
    """Data of another version is left alone."""
    broker.prepare(tmp_path / "data", kafka, port=0)
    file = tmp_path / "data/cluster.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"kafka": "3.9.0"}))
    with pytest.raises(BrokerError, match=r"was made with kafka=3\.9\.0, not "):
        broker.prepare(tmp_path / "data", kafka, port=0)


def test_a_directory_with_a_comma_is_refused(kafka: Installation, tmp_path: Path) -> None:
    """Kafka would take it for two."""
    with pytest.raises(BrokerError, match=r"can't keep data in .*/Doe, Jane: there is a comma"):
        broker.prepare(tmp_path / "Doe, Jane", kafka, port=0)
    assert not (tmp_path / "Doe, Jane").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00"], ids=["empty", "list", "bare", "nul"])
def test_a_damaged_cluster_file_is_named(kafka: Installation, tmp_path: Path, content: str) -> None:
    """What can't be read is not guessed."""
    broker.prepare(tmp_path / "data", kafka, port=0)
    (tmp_path / "data/cluster.json").write_text(content)
    with pytest.raises(BrokerError, match=r"cluster\.json is damaged"):
        broker.prepare(tmp_path / "data", kafka, port=0)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_other_broker_counts_are_refused(kafka: Installation, tmp_path: Path, count: int) -> None:
    """One or three: two brokers survive no failure, and more prove nothing on one machine."""
    with pytest.raises(BrokerError, match=f"brokers={count}: expected 1 or 3"):
        broker.prepare(tmp_path / "data", kafka, brokers=count, port=0)


async def test_nobody_there_is_unreachable() -> None:
    """Where nothing listens, the wait ends in its time and says where."""
    with pytest.raises(BrokerUnreachableError, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        await broker.answers("127.0.0.1:1", patience=0)


def _storage(node: BrokerNode) -> dict[str, str]:
    return _properties(node.log_dir / "meta.properties")


def _properties(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def _three_free_ports() -> int:
    while True:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port: int = found.getsockname()[1]
        try:
            for above in (1, 2):
                socket.create_server(("127.0.0.1", port + above)).close()
        except (OSError, OverflowError):
            continue
        return port
