"""Three brokers, one of them killed under load: writes go on, and nothing is lost."""

import time

import pytest

from tests.containers.stack import ROOT, THREE_BROKERS, Stack, until
from tests.witness import Witness

pytestmark = pytest.mark.containers
SETTINGS = ROOT / "compose/brokers-3.env"


def percentile(values: list[float], share: float) -> float:
    """Give the value that this share of the values does not exceed."""
    return sorted(values)[int(share * (len(values) - 1))]


def test_a_broker_dies_under_load(stack: Stack, witness: Witness) -> None:
    """Accepted writes go on while one of three is dead; each is decided once."""
    given = (line for line in SETTINGS.read_text().splitlines() if "=" in line)
    stack.environment.update(dict(line.split("=", 1) for line in given))
    stack.environment["TRANSACTIONS_PER_SECOND"] = "300"
    stack.up(file=THREE_BROKERS)
    stack.up("topics", "api", "detector", "loadgen")
    stack.wait_ready()
    witness.start(threads=8)
    until(lambda: len(witness.accepted) > 200, "the witness is served")
    calm = len(witness.seconds)
    died = time.time()
    stack.kill("broker-2")
    until(
        lambda: sum(began > died for began, _ in witness.seconds) > 500, "writes go on without it"
    )
    stack.start("broker-2")
    witness.stop()
    stack.compose("stop", "loadgen")
    during = [took for began, took in witness.seconds if began + took > died]
    quiet = [took for _, took in witness.seconds[:calm]]
    for name, values in (("before", quiet), ("with one broker dead", during)):
        figures = ", ".join(
            f"p{s * 100:g} {percentile(values, s) * 1000:.0f}" for s in (0.5, 0.99, 1)
        )
        print(f"POST to 202 {name}, in ms: {figures} ({len(values)} of them)")
    log = stack.settle()
    assert witness.accepted - set(log.verdicts) == set()
    assert (log.lost, log.doubled) == (set(), set()), log.places(log.lost | log.doubled)
    stack.down()
    assert stack.leftovers() == []
