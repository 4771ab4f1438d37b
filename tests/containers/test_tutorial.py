"""The tutorial's way: two compose files, one network, a load, more detectors, a dead broker."""

import json
import re
import time
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.containers
CONSOLE_CONSUMER = "/opt/kafka/bin/kafka-console-consumer.sh --bootstrap-server localhost:9092"


def test_the_image_is_small_and_asks_for_no_rights(stack: Any, image: str) -> None:
    """Not root, no capability, nothing writable, no compiler or installer of its own."""
    inside = (
        "import os, sys; print(os.getuid(), os.getgid());"
        "print([d for d in ('/', '/opt/fraudstream', '/etc', '/var', '/home', '/root', '/usr')"
        " if os.access(d, os.W_OK)]);"
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')))"
    )
    rights = ("--rm", "--read-only", "--cap-drop", "ALL", "--entrypoint", "python")
    uid, writable, capabilities = stack.engine("run", *rights, image, "-c", inside).splitlines()
    assert (uid, writable, int(capabilities, 16)) == ("10001 10001", "[]", 0)
    files = stack.engine(
        "run", *rights, image, "-c", "import os; print(*os.listdir('/opt/fraudstream/bin'))"
    )
    assert "fraudstream" in files.split()
    assert "pip" not in files.split()
    weigh = (
        "import pathlib; print(sum(f.lstat().st_size for f in pathlib.Path('/opt/fraudstream')"
        ".rglob('*') if f.is_file()) // 10**6)"
    )
    megabytes = int(stack.engine("run", *rights, image, "-c", weigh))
    print(f"the image: {megabytes} MB on top of python:3.13-slim")
    assert megabytes < 150


def test_each_part_says_what_it_takes(stack: Any, image: str) -> None:
    """The image's command is a part's name; a part's --help ends well on a read-only system."""
    for part in ("api", "detector", "loadgen", "topics", "verify"):
        assert "--kafka-broker-url" in stack.engine(
            "run", "--rm", "--read-only", image, part, "--help"
        )


def test_the_tutorial_with_scaling_and_a_dead_broker(stack: Any, witness: Any) -> None:
    """Parts first, broker second; 1000 TPS verified; more detectors and a broker's death under it.

    Nothing that was accepted is lost, nothing has two verdicts, and `down` leaves nothing.
    """
    stack.up("topics", "api", "detector")
    stack.until(lambda: httpx.get(f"{stack.url}/healthz").is_success, "the gateway is alive")
    assert httpx.get(f"{stack.url}/readyz").status_code == 503  # and waits for its broker
    began = time.monotonic()
    stack.up(file=stack.one_broker)
    stack.wait_ready()
    print(f"ready {time.monotonic() - began:.1f} s after the broker's `up`")

    load = ("--tps", "1000", "--duration", "15", "--verify", "--json")
    summary = json.loads(stack.compose("run", "--rm", "-T", "loadgen", "loadgen", *load))
    print("verified load:", json.dumps(summary))

    stack.up("loadgen")
    witness.start()
    stack.until(lambda: len(witness.accepted) > 50, "the witness is served")
    stack.up("detector", options=("--scale", "detector=3"))
    took = stack.until(lambda: stack.detectors_at_work() == 3, "three detectors share the work")
    print(f"three detectors at work after {took:.1f} s")

    stack.kill("broker")
    before = len(witness.accepted)
    died = time.monotonic()
    stack.start("broker")
    stack.until(lambda: len(witness.accepted) > before + 50, "the witness is served again")
    print(f"served again {time.monotonic() - died:.1f} s after the broker's death")

    console = (
        f"{CONSOLE_CONSUMER} --topic {stack.topics['fraud']} --from-beginning --max-messages 5"
    )
    lines = stack.compose("exec", "-T", "broker", *console.split(), file=stack.one_broker)
    verdicts = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    assert [verdict["decision"] for verdict in verdicts] == ["fraud"] * 5

    witness.stop()
    stack.compose("stop", "loadgen")
    log = stack.settle()
    assert witness.accepted - set(log.verdicts) == set()
    assert (log.lost, log.doubled) == (set(), set())
    print(f"{len(log.transactions)} transactions, {len(witness.accepted)} of them the witness's")

    stack.down()
    assert stack.leftovers() == []


def test_services_end_well_and_at_once(stack: Any) -> None:
    """SIGTERM ends each part with exit code 0, long before it would be killed."""
    stack.up(file=stack.one_broker)
    stack.up("topics", "api", "detector", "loadgen")
    stack.wait_ready()
    began = time.monotonic()
    stack.compose("stop", "loadgen", "api", "detector")
    took = time.monotonic() - began
    for service in ("loadgen", "api", "detector"):
        (name,) = stack.containers(service)
        assert stack.engine("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    print(f"three parts stopped in {took:.1f} s")
    assert re.search(r"/tcp", stack.engine("port", stack.containers("broker")[0]))
