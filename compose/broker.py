"""The embedded Kafka: its configuration, its command lines, and when it is ready.

Each node is broker and controller at once (KRaft). Nothing is started here: `prepare` gives the
command lines, a supervisor runs them, `answers` tells when the cluster can be used.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from compose import jvm, storage
from compose.errors import BrokerError
from compose.jars import Installation
from wire.errors import BrokerUnreachableError

PORTS_TRIED: Final = 200
"""How far above the brokers' ports a free one is looked for, for the controllers."""
ANY_PORTS: Final = range(20_000, 32_000)
"""Where free ports are looked for if any will do: a node that is started again finds its own free.

Outgoing connections take theirs from 32,768 on, on Linux; elsewhere from 49,152 on.
"""
ASK_EVERY_S: Final = 0.05
READY_TIMEOUT_S: Final = 60.0
STOP_S: Final = 2.5
"""Time to end after SIGTERM; then SIGKILL is right.

A single node ends in 0.3 s. Of three that end together, two close their logs in a second and then
wait 5 s (fixed in Kafka's raft client) for a new leader of the quorum that is no more.
"""
REQUEST_TIMEOUT_MS: Final = 2_000
PARTITION_BYTES: Final = 1 << 30
"""Most bytes a partition keeps, whatever its retention time: a laptop's disk is bounded too."""

_REPLICATION: Final = {1: ("1", "1"), 3: ("3", "2")}
"""Brokers to replicas of each partition and how many must be in sync."""
LOOPBACK: Final = "127.0.0.1"

_SETTINGS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One machine, few clients: fewer threads and partitions start faster and take less memory.
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    "log.cleaner.dedupe.buffer.size": "8388608",
    # A group starts as soon as its first member is there.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # An open transaction of a dead producer holds all read_committed readers of its partitions:
    # look for those past their timeout each second (10 s by default).
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # A killed node is known to be gone, and may register again, after this.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    # Data: bounded by time and size; a group that was away for a year finds its offsets.
    "log.retention.hours": "168",
    "log.retention.bytes": str(PARTITION_BYTES),
    "log.segment.bytes": str(128 << 20),
    "log.retention.check.interval.ms": "60000",
    "offsets.retention.minutes": str(365 * 24 * 60),
}


@dataclass(frozen=True, slots=True)
class BrokerNode:
    """One node of the embedded cluster, ready to be run."""

    node_id: int
    host: str
    port: int
    log_dir: Path
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Variables to add to the environment."""

    @property
    def address(self) -> str:
        """HOST:PORT as clients use it."""
        return f"{self.host}:{self.port}"


def bootstrap(nodes: Sequence[BrokerNode]) -> str:
    """Give the bootstrap string for clients: every node's address."""
    return ",".join(node.address for node in nodes)


def prepare(
    data_dir: Path,
    kafka: Installation,
    *,
    brokers: int = 1,
    host: str = LOOPBACK,
    port: int = 9092,
    heap_mib: int = jvm.HEAP_MIB,
    extra: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
) -> tuple[BrokerNode, ...]:
    """Configure the nodes and format their storage if it is new; start nothing.

    Args:
        data_dir: holds the cluster's data and configuration; made if need be.
        kafka: what `jars.install` gave.
        brokers: 1, or 3 (replication 3, two in sync).
        host: where the brokers listen and what they tell clients.
        port: of the first broker; the others take the next ones. 0 finds free ports.
        heap_mib: bound of each node's heap.
        extra: further broker properties; they win.
        flags: further flags for the JVM.

    Raises:
        BrokerError: a port is in use, or the data is of another broker count or Kafka version.
    """
    if brokers not in _REPLICATION:
        raise BrokerError(f"brokers={brokers}: expected 1 or 3")
    ports = free_ports(host, port, brokers)
    controllers = _controller_ports(ports, port == 0)
    cluster = storage.cluster(data_dir, brokers)
    replication, in_sync = _REPLICATION[brokers]
    nodes = []
    for node_id, (own, controller) in enumerate(zip(ports, controllers, strict=True), start=1):
        log_dir = data_dir / f"node-{node_id}"
        storage.format_node(log_dir, kafka, cluster.cluster_id, node_id)
        voters = (f"{n}@{LOOPBACK}:{p}" for n, p in enumerate(controllers, start=1))
        properties = {
            **_SETTINGS,
            "node.id": str(node_id),
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"PLAINTEXT://{host}:{own},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{host}:{own}",
            "log.dirs": str(log_dir),
            "default.replication.factor": replication,
            "min.insync.replicas": in_sync,
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            properties[f"{topic}.replication.factor"] = replication
        for topic in ("transaction.state.log", "share.coordinator.state.topic"):
            properties[f"{topic}.min.isr"] = in_sync
        file = data_dir / f"node-{node_id}.properties"
        storage.write(file, storage.as_properties(properties | dict(extra or {})))
        argv = jvm.command(
            kafka,
            "kafka.Kafka",
            str(file),
            heap_mib=heap_mib,
            flags=(*jvm.fast_start(kafka), *flags),
        )
        nodes.append(BrokerNode(node_id, host, own, log_dir, argv, jvm.environment()))
    return tuple(nodes)


async def answers(address: str, *, brokers: int = 1, patience: float = READY_TIMEOUT_S) -> None:
    """Wait until the cluster answers clients and all its brokers are registered.

    Args:
        address: bootstrap addresses.
        brokers: how many there must be.
        patience: seconds to wait; 0 asks once.

    Raises:
        BrokerUnreachableError: it was not so in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while len(await _registered(address)) < brokers:
        if loop.time() >= deadline:
            raise BrokerUnreachableError(f"Kafka at {address} does not answer after {patience:g} s")
        await asyncio.sleep(ASK_EVERY_S)


async def _registered(address: str) -> set[int]:
    if not await _listens(address):
        return set()  # asking would make aiokafka log an error
    client = AIOKafkaClient(bootstrap_servers=address, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await client.bootstrap()
        return {broker.nodeId for broker in client.cluster.brokers()}
    except (KafkaError, OSError):
        return set()
    finally:
        await client.close()


async def _listens(address: str) -> bool:
    for one in address.split(","):
        host, _, port = one.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
    return True


def free_ports(host: str, port: int, count: int) -> list[int]:
    """Give the brokers' ports, as `prepare` takes them.

    Raises:
        BrokerError: one is in use.
    """
    if port == 0:
        return _any_ports(host, count)
    ports = list(range(port, port + count))
    for one in ports:
        try:
            _bound(host, one).close()
        except OSError as error:
            cause = f"Kafka can't listen on {host}:{one}: {error.strerror}"
            raise BrokerError(f"{cause}; give another --kafka-port") from error
    return ports


def _controller_ports(taken: Sequence[int], anywhere: bool) -> list[int]:
    """Find a free port for each node's controller.

    Voters know each other by node id, so these may be others on the next start. They lie next to
    the brokers' ports, below the range that outgoing connections take theirs from: a node that
    is restarted finds its port free.
    """
    if anywhere:
        return _any_ports(LOOPBACK, len(taken))
    found: list[int] = []
    for port in range(taken[-1] + 1, taken[-1] + PORTS_TRIED):
        with contextlib.suppress(OSError, OverflowError):
            _bound(LOOPBACK, port).close()
            found.append(port)
            if len(found) == len(taken):
                return found
    raise BrokerError(f"no free ports for Kafka's controllers above {taken[-1]}")


def _any_ports(host: str, count: int) -> list[int]:
    """Find free ports, any of ANY_PORTS."""
    found: list[int] = []
    with contextlib.ExitStack() as held_open:  # all at once, so that all differ
        for port in random.sample(ANY_PORTS, PORTS_TRIED * count):
            with contextlib.suppress(OSError):
                held_open.enter_context(_bound(host, port))
                found.append(port)
                if len(found) == count:
                    return found
    raise BrokerError(f"no free ports for Kafka from {ANY_PORTS.start} to {ANY_PORTS[-1]}")


def _bound(host: str, port: int) -> socket.socket:
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family)
    try:
        # As Java does: a port whose old connections linger in TIME_WAIT is free.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError:
        found.close()
        raise
    return found
