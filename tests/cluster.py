"""An embedded Kafka for tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compose import broker, jars, leash


class Cluster:
    """An embedded Kafka that a test may stop, kill and start again on the same data."""

    def __init__(self, directory: Path, kafka: jars.Installation, **options: Any) -> None:
        self.directory = directory
        self.nodes = broker.prepare(directory / "data", kafka, **({"port": 0} | options))
        self.address = broker.bootstrap(self.nodes)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def listen(self, listener: str, advertised: str) -> None:
        """Have a single node, not yet started, listen there too: NAME://HOST:PORT.

        Clients that come by it are told to go on by what is advertised.
        """
        (node,) = self.nodes
        file = node.log_dir.with_suffix(".properties")
        text = file.read_text()
        for name, address in (("listeners", listener), ("advertised.listeners", advertised)):
            line = [one for one in text.splitlines() if one.startswith(f"{name}=")][-1]
            text += f"{line},{address}\n"  # the last one counts
        file.write_text(text)

    def launch(self, *node_ids: int) -> None:
        """Start the nodes (default: all) without waiting for them."""
        for node in self.nodes:
            if not node_ids or node.node_id in node_ids:
                with self.log(node.node_id).open("ab") as log:
                    self.processes[node.node_id] = subprocess.Popen(
                        # On the leash Kafka dies with pytest, even when that is killed.
                        (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *node.argv),
                        env=os.environ | node.env,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )

    async def start(self, *node_ids: int) -> None:
        """Start the nodes (default: all) and wait until the cluster is whole."""
        self.launch(*node_ids)
        await broker.answers(self.address, brokers=len(self.nodes))

    async def restore(self) -> None:
        """Have all nodes run, whatever was done to them, and wait until the cluster is whole."""
        down = []
        for node in self.nodes:
            process = self.processes.get(node.node_id)
            if process is None or process.poll() is not None:
                down.append(node.node_id)
            else:
                process.send_signal(signal.SIGCONT)
        if down:
            self.launch(*down)
        await broker.answers(self.address, brokers=len(self.nodes))

    def stop(self) -> None:
        """Stop all nodes as the supervisor does."""
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + broker.STOP_S
        for process in self.processes.values():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self, *node_ids: int) -> None:
        """Kill the nodes (default: all) with SIGKILL."""
        for node_id, process in self.processes.items():
            if not node_ids or node_id in node_ids:
                process.kill()
                process.wait()

    def log(self, node_id: int = 1) -> Path:
        """Give the file with what a node has printed."""
        return self.directory / f"node-{node_id}.log"
