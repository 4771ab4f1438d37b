"""What the container tests stand on: the image, a project to bring up, and who looks on."""

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.stack import ENGINE, ROOT, URL, Stack, engine
from tests.witness import Witness

IMAGE = "fraudstream:local"
PROMETHEUS = "docker.io/prom/prometheus:v3.5.0"


@pytest.fixture(scope="session")
def image() -> str:
    """The image of this checkout, built."""
    Stack().compose("build", "topics")
    return IMAGE


@pytest.fixture
def bystander(image: str) -> Iterator[str]:
    """A container, a volume and a network of somebody else's, all of this name."""
    name = f"bystander-{uuid.uuid4().hex[:8]}"
    engine("volume", "create", name)
    engine("network", "create", name)
    waiting = ("-c", "import time; time.sleep(3600)")
    placed = ("--name", name, "--network", name, "--volume", f"{name}:/data")
    engine("run", "--detach", *placed, "--entrypoint", "python", image, *waiting)
    yield name
    engine("rm", "--force", "--volumes", name)
    engine("network", "rm", name)
    engine("volume", "rm", name)


@pytest.fixture(scope="session")
def prometheus_image() -> None:
    """Prometheus as the compose file names it; where no registry is reached, Debian's package."""
    if _succeeds("image", "inspect", PROMETHEUS) or _succeeds("pull", "-q", PROMETHEUS):
        return
    containerfile = Path(__file__).parent / "prometheus.Dockerfile"
    engine("build", "--network", "host", "-t", PROMETHEUS, "-f", str(containerfile), str(ROOT))


def _succeeds(*arguments: str) -> bool:
    return subprocess.run([ENGINE, *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def stack(image: str) -> Iterator[Stack]:
    """A project with nothing up yet; everything of it is removed at the end."""
    del image
    made = Stack()
    made.down()
    assert made.leftovers() == []
    yield made
    made.down()


@pytest.fixture
def witness() -> Iterator[Witness]:
    """A client that has not begun to send."""
    made = Witness(URL)
    yield made
    made.stop()
