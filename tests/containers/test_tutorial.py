"""The tutorial's way: two compose files, one network, a load, more detectors, a dead broker."""

import json
import time
from pathlib import Path

import httpx
import pytest
import yaml

from tests.containers.log import TOPICS
from tests.containers.stack import ONE_BROKER, ROOT, URL, Stack, engine, until
from tests.witness import Witness

pytestmark = pytest.mark.containers
PARTS = ("loadgen", "api", "detector")
CONSOLE_CONSUMER = "/opt/kafka/bin/kafka-console-consumer.sh --bootstrap-server localhost:9092"


def health_checks() -> dict[str, list[str]]:
    """Give the commands that tell whether a container is healthy, by service."""
    dockerfile = (ROOT / "compose/Dockerfile").read_text()
    _, _, of_image = dockerfile.partition("HEALTHCHECK ")
    command = json.loads(of_image[of_image.index("CMD") + 3 :].splitlines()[0])
    kafka = yaml.safe_load((ROOT / "compose/docker-compose.kafka.yml").read_text())
    _, *of_broker = kafka["services"]["broker"]["healthcheck"]["test"]
    return {"api": command, "detector": command, "broker": of_broker}


def verified_load(stack: Stack) -> bool:
    """Run 1000 a second for 15 s; tell whether all were sent, in spite of the machine's neighbours.

    Whatever was sent was accepted and has one right verdict.
    """
    load = ("--tps", "1000", "--duration", "15", "--verify", "--json")
    summary = json.loads(stack.compose("run", "--rm", "-T", "loadgen", "loadgen", *load))
    print("verified load:", json.dumps(summary))
    found = summary["verification"]
    assert [found[fault] for fault in ("lost", "duplicate", "misclassified", "gaps")] == [0] * 4
    assert found["verdicts"] == summary["accepted"] == summary["sent"]
    return bool(summary["sent"] == summary["due"] == 15_000)


def test_the_image_is_small_and_asks_for_no_rights(image: str) -> None:
    """Not root, no capability, nothing writable, no compiler or installer of its own."""
    inside = (
        "import os; print(os.getuid(), os.getgid()); root = os.stat('/').st_dev;"
        "print([d for d, _, _ in os.walk('/')"
        " if os.access(d, os.W_OK) and os.stat(d).st_dev == root]);"  # no engine's own mounts
        "print(next(l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')))"
    )
    rights = ("--rm", "--read-only", "--cap-drop", "ALL")
    python = ("run", *rights, "--entrypoint", "python", image, "-c")
    uid, writable, capabilities = engine(*python, inside).splitlines()
    print(f"the image: runs as {uid}, may write to {writable}, capabilities {capabilities}")
    assert (uid, writable, int(capabilities, 16)) == ("10001 10001", "[]", 0)
    files = engine(*python, "import os; print(*os.listdir('/opt/fraudstream/bin'))")
    assert "fraudstream" in files.split()
    assert "pip" not in files.split()
    weigh = (
        "import pathlib; print(sum(f.lstat().st_size for f in pathlib.Path('/opt/fraudstream')"
        ".rglob('*') if f.is_file()) // 10**6)"
    )
    megabytes = int(engine(*python, weigh))
    print(f"the image: {megabytes} MB on top of python:3.13-slim")
    assert megabytes < 150


def test_each_part_says_what_it_takes(image: str) -> None:
    """The image's command is a part's name; a part's --help ends well on a read-only system."""
    for part in ("api", "detector", "loadgen", "topics", "verify"):
        assert "--kafka-broker-url" in engine("run", "--rm", "--read-only", image, part, "--help")


def test_the_tutorial_with_scaling_and_a_dead_broker(
    stack: Stack, witness: Witness, tmp_path: Path
) -> None:
    """Parts first, broker second; 1000 TPS verified; more detectors and a broker's death under it.

    Nothing that was accepted is lost, nothing has two verdicts, and `down` leaves nothing.
    """
    stack.up("topics", "api", "detector")
    until(lambda: httpx.get(f"{URL}/healthz").is_success, "the gateway is alive")
    print(f"the gateway answers {stack.seconds_up('api'):.1f} s after its container's start")
    assert httpx.get(f"{URL}/readyz").status_code == 503  # and waits for its broker
    began = time.monotonic()
    stack.up(file=ONE_BROKER)
    stack.wait_ready()
    print(f"ready {time.monotonic() - began:.1f} s after the broker's `up`")

    until(lambda: verified_load(stack), "the machine has room for 1000 a second")

    stack.up("loadgen")
    witness.start()
    until(lambda: len(witness.accepted) > 50, "the witness is served")
    stack.up("detector", options=("--scale", "detector=3"))
    took = until(lambda: stack.detectors_at_work() == 3, "three detectors share the work")
    print(f"three detectors at work after {took:.1f} s")

    stack.kill("broker")
    before = len(witness.accepted)
    died = time.monotonic()
    stack.start("broker")
    until(lambda: len(witness.accepted) > before + 50, "the witness is served again")
    print(f"served again {time.monotonic() - died:.1f} s after the broker's death")

    console = f"{CONSOLE_CONSUMER} --topic {TOPICS['fraud']} --from-beginning --max-messages 5"
    lines = stack.compose("exec", "-T", "broker", *console.split(), file=ONE_BROKER)
    verdicts = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    assert [verdict["decision"] for verdict in verdicts] == ["fraud"] * 5

    witness.stop()
    stack.compose("stop", "loadgen")
    log = stack.settle()
    assert witness.accepted - set(log.verdicts) == set()
    if log.lost or log.doubled:
        stack.keep(tmp_path)
    assert (log.lost, log.doubled) == (set(), set()), log.places(log.lost | log.doubled)
    print(f"{len(log.transactions)} transactions, {len(witness.accepted)} of them the witness's")

    stack.down()
    assert stack.leftovers() == []


def test_each_container_may_little_and_ends_at_once(stack: Stack) -> None:
    """Ports on loopback only, limits on memory and processors, no rights, nothing written.

    SIGTERM ends each part with exit code 0, long before it would be killed.
    """
    stack.up(file=ONE_BROKER)
    stack.up("topics", "api", "detector", "loadgen")
    stack.wait_ready()
    for service in (*PARTS, "broker"):
        host = stack.inspect(service)["HostConfig"]
        bindings = (each for port in host["PortBindings"].values() for each in port or ())
        assert {each["HostIp"] for each in bindings} <= {"127.0.0.1"}, service
        assert 0 < host["Memory"] <= 2**30, service
        assert 0 < host["NanoCpus"] <= 2 * 10**9, service
    for service in PARTS:
        found = stack.inspect(service)
        assert found["HostConfig"]["ReadonlyRootfs"], service
        assert found["Config"]["User"] == "10001:10001", service
        look = "import os; print(os.listdir('/tmp') + os.listdir('/var/tmp'))"
        assert engine("exec", found["Name"].strip("/"), "python", "-c", look) == "[]", service
    assert httpx.get(f"{URL}/docs/swagger-ui-bundle.js").is_success  # what the image leaves out

    # Not every engine runs health checks by itself, or keeps an image's: so each is run here.
    for service, check in health_checks().items():
        engine("exec", stack.containers(service)[0], *check)

    began = time.monotonic()
    stack.compose("stop", "loadgen", "api", "detector")
    took = time.monotonic() - began
    for service in PARTS:
        assert stack.inspect(service)["State"]["ExitCode"] == 0, service
    print(f"three parts stopped in {took:.1f} s")


def test_the_make_targets_touch_only_the_project(stack: Stack, bystander: str) -> None:
    """Up, logs and down do as `make help` says; what is another's is still there after them."""
    stack.environment["DETECTORS"] = "2"
    stack.make("docker-up")
    stack.wait_ready()
    until(lambda: stack.detectors_at_work() == 2, "two detectors share the work")
    assert stack.follow("working")
    stack.make("docker-down")
    assert stack.leftovers() == []
    assert engine("inspect", "--format", "{{.State.Status}}", bystander) == "running"
    assert engine("volume", "inspect", "--format", "{{.Name}}", bystander) == bystander
    assert engine("network", "inspect", "--format", "{{.Name}}", bystander) == bystander
