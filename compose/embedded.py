"""The embedded Kafka under a supervisor: for `up`, and alone for `fraudstream broker`."""

import asyncio
from collections.abc import Sequence
from typing import Final

from compose import aot, broker, datadir, foreground, jars
from compose.broker import BrokerNode
from compose.child import Part
from compose.datadir import DataDir
from compose.screen import Screen
from compose.settings import BrokerSettings
from compose.supervisor import Supervisor
from wire import logs

START_S: Final = 60.0


def prepare(settings: BrokerSettings, data: DataDir, screen: Screen) -> tuple[BrokerNode, ...]:
    """Have Kafka's jars and the nodes' storage in place, emptied if that is asked; start nothing.

    Raises:
        JarsError: Kafka can't be downloaded, or is not what it should be.
        BrokerError: a port is in use, or the data is of another shape.
    """
    with screen.download("downloading Kafka") as report:
        kafka = jars.install(report=report)
    if not aot.is_made(kafka):
        screen.step("preparing Kafka for fast starts (once)")
        aot.ensure(kafka)
    count, port = int(settings.brokers), settings.kafka_port
    if settings.fresh:
        broker.free_ports(broker.LOOPBACK, port, count)  # told while the data is still there
        data.empty()
    return broker.prepare(data.kafka, kafka, brokers=count, port=port)


async def start(
    nodes: Sequence[BrokerNode], data: DataDir, supervisor: Supervisor, screen: Screen
) -> None:
    """Start the nodes, and wait until the cluster answers.

    Raises:
        BrokerUnreachableError: it did not answer in time.
    """
    if not nodes:
        return
    screen.step(f"starting Kafka {jars.KAFKA_VERSION} on {broker.bootstrap(nodes)}")
    for node in nodes:
        name = f"kafka-{node.node_id}"
        part = Part(name, node.argv, data.log(name), node.env, stop_seconds=broker.STOP_S)
        supervisor.start(part)
    await broker.answers(broker.bootstrap(nodes), brokers=len(nodes), patience=START_S)


def run(settings: BrokerSettings) -> int:
    """Run the embedded Kafka alone until SIGINT or SIGTERM; give the exit code."""
    logs.configure(settings, "broker")
    screen = Screen()
    with datadir.locked(settings.fraudstream_data_dir) as data:
        nodes = prepare(settings, data, screen)

        async def bring_up(supervisor: Supervisor) -> None:
            await start(nodes, data, supervisor, screen)
            screen.line(f"ready {broker.bootstrap(nodes)}")

        asyncio.run(foreground.run(bring_up, ("kafka",), screen))
    return 0
