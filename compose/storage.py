"""The storage of an embedded cluster: whose it is, and its format.

DATA/cluster.json        Kafka's version, how many brokers, the cluster's id
DATA/node-N.properties   written anew on every start
DATA/node-N/             the node's logs
"""

import base64
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from compose import jvm
from compose.errors import BrokerError
from compose.jars import KAFKA_VERSION, Installation, held, scratch

FORMAT_TIMEOUT_S: Final = 60.0
_CHECKPOINT = "bootstrap.checkpoint"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Whose data it is; the content of cluster.json."""

    kafka: str
    brokers: int
    cluster_id: str


def cluster(data_dir: Path, brokers: int) -> Cluster:
    """Give the cluster whose data this is, making a new one in an empty directory.

    Raises:
        BrokerError: the data is of another broker count or Kafka version, or damaged, or lies where
            Kafka can't keep any.
    """
    if "," in str(data_dir):  # log.dirs is a list
        raise BrokerError(f"Kafka can't keep data in {data_dir}: there is a comma in its path")
    file = data_dir / "cluster.json"
    if not file.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        new = Cluster(kafka=KAFKA_VERSION, brokers=brokers, cluster_id=_kafka_uuid())
        write(file, msgspec.json.encode(new).decode() + "\n")
        return new
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=Cluster)
    except msgspec.DecodeError as error:
        raise BrokerError(f"{file} is damaged: {error}") from error
    wanted = {"kafka": KAFKA_VERSION, "brokers": brokers}
    for what, value in wanted.items():
        if (found := getattr(kept, what)) != value:
            raise BrokerError(
                f"the data in {data_dir} was made with {what}={found}, not {value}:"
                " give another --data-dir, or --fresh to empty this one"
            )
    return kept


def format_node(log_dir: Path, kafka: Installation, cluster_id: str, node_id: int) -> None:
    """Write what `kafka-storage format` writes, without a JVM; leave formatted storage alone."""
    properties = log_dir / "meta.properties"
    if properties.exists():
        return
    log_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_bootstrap_checkpoint(kafka), log_dir / _CHECKPOINT)
    meta = {
        "version": "1",
        "cluster.id": cluster_id,
        "node.id": str(node_id),
        "directory.id": _kafka_uuid(),
    }
    write(properties, as_properties(meta))


def as_properties(values: Mapping[str, str]) -> str:
    """Write Java properties, which are read as Latin-1; names need no escapes."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in values.items())


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def _bootstrap_checkpoint(kafka: Installation) -> Path:
    """Give the first records of a cluster's metadata log: the feature levels of this Kafka.

    They name no cluster and no node, so Kafka's own tool writes them once for each installation.

    Raises:
        BrokerError: it can't, in time or at all.
    """
    kept = kafka.home / _CHECKPOINT
    if kept.exists():
        return kept
    try:
        with held(kafka.home / "format.lock"):
            if not kept.exists():  # another process may just have been here
                with scratch(kafka.home, "format") as directory:
                    _format(kafka, directory).replace(kept)
    except OSError as error:
        raise BrokerError(f"can't write to {kafka.home}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise BrokerError(
            f"Kafka did not format its storage within {FORMAT_TIMEOUT_S:g} s"
        ) from error
    return kept


def _format(kafka: Installation, directory: Path) -> Path:
    """Have Kafka's tool format storage in a directory; give the checkpoint that it writes."""
    log_dir = directory / "log"
    properties = directory / "format.properties"
    properties.write_text(
        as_properties(
            {
                "process.roles": "broker,controller",
                "node.id": "1",
                "controller.listener.names": "CONTROLLER",
                "controller.quorum.voters": "1@localhost:1",
                "listeners": "PLAINTEXT://localhost:2,CONTROLLER://localhost:1",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                "log.dirs": str(log_dir),
            }
        )
    )
    tool = ("kafka.tools.StorageTool", "format", "-t", _kafka_uuid(), "-c", str(properties))
    done = subprocess.run(  # noqa: S603 - our own command line
        jvm.command(kafka, *tool),
        env=os.environ | jvm.environment(),
        capture_output=True,
        text=True,
        timeout=FORMAT_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise BrokerError(f"Kafka can't format its storage: {done.stderr.strip()[-500:]}")
    return log_dir / _CHECKPOINT


def _kafka_uuid() -> str:
    """Make a UUID in Kafka's notation: URL-safe base64, never with a leading dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith(
        "-"
    ):
        pass
    return text


def _escaped(value: str) -> str:
    return json.dumps(value)[1:-1]  # the same escapes, also of what is beyond ASCII
