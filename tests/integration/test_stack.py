"""`fraudstream up`, running: the main job end to end, and parts that are killed."""

import json
import signal
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.conftest import read_topic
from tests.stack import DEADLINE_S, Stack, command, post, stacks, until, verdicts
from tests.trust import TRUST
from wire.settings import TopicSettings


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Stack]]:
    """Start stacks, all on the same data; whatever these tests leave is killed."""
    with stacks(tmp_path_factory.mktemp("stack")) as start:
        yield start


@pytest.fixture(scope="module")
def kept(up: Callable[..., Stack]) -> str:
    """A fraud that was on its stream when the whole stack was killed, under load."""
    stack = up("--tps", "100", "--detectors", "2")
    url = stack.wait_ready()
    assert len(stack.children) >= 4
    mine = post(url, "901", transaction_id="kept-1")
    assert mine in verdicts(url, "fraud", {mine}, at_least=5)
    stack.process.kill()
    stack.process.wait()
    until(stack.nobody_left)
    return mine


@pytest.fixture(scope="module")
def stack(up: Callable[..., Stack], kept: str) -> Iterator[Stack]:  # noqa: ARG001 - it is its data
    """A stack without load, for all these tests; after them it ends in order."""
    running = up("--tps", "0")
    running.wait_ready()
    yield running
    assert running.end(signal.SIGTERM) == 0
    assert running.nobody_left()


def counts(stack: Stack) -> tuple[int, int, int]:
    """Give how many transactions, legit verdicts and frauds lie in its Kafka."""
    settings = TopicSettings(kafka_broker_url=f"127.0.0.1:{stack.kafka_port}")
    names = (settings.transactions_topic, settings.legit_topic, settings.fraud_topic)
    transactions, legit, fraud = (len(read_topic(settings, name)) for name in names)
    return transactions, legit, fraud


def all_decided(stack: Stack) -> bool:
    """Tell whether each transaction has its verdict."""
    transactions, *decided = counts(stack)
    return transactions == sum(decided)


def test_killed_it_leaves_nobody_and_goes_on_from_its_data(stack: Stack, kept: str) -> None:
    """Load flows after the ready line; after SIGKILL all have ended, and old verdicts are there.

    What was accepted and not yet decided gets its verdict now.
    """
    assert kept in verdicts(stack.url, "fraud", {kept})
    until(lambda: all_decided(stack))


def test_the_limit_is_strict_and_each_verdict_is_on_one_stream(stack: Stack) -> None:
    """900.00 is legit, 900.01 is fraud; each is seen on its stream and not on the other."""
    url = stack.url
    legit, fraud = post(url, "900.00"), post(url, "900.01")
    seen = {
        name: verdicts(url, name, {wanted}) for name, wanted in (("legit", legit), ("fraud", fraud))
    }
    assert seen["legit"][legit]["decision"] == "legit"
    assert seen["fraud"][fraud]["decision"] == "fraud"
    assert fraud not in seen["legit"]
    assert legit not in seen["fraud"]
    assert {legit, fraud} <= verdicts(url, "all", {legit, fraud}).keys()


def test_a_second_up_on_the_same_data_is_refused(stack: Stack) -> None:
    """The data directory has one user, and the error says who."""
    result = command("up", "--data-dir", str(stack.data), "--port", "0")
    assert result.returncode == 2
    assert f"process {stack.process.pid}" in result.stderr
    assert result.stderr.count("\n") == 1


def test_tail_prints_verdicts_from_the_beginning(stack: Stack) -> None:
    """`fraudstream tail` reads straight from Kafka, as the tutorial's console consumer does."""
    fraud = post(stack.url, "1000.50")
    kafka = ("--kafka-broker-url", f"127.0.0.1:{stack.kafka_port}")
    until(lambda: all_decided(stack))
    *_, count = counts(stack)
    so_many = ("--from-beginning", "--max-messages", str(count))
    as_json = command("tail", "fraud", *kafka, *so_many, "--json")
    told = [json.loads(line)["transaction_id"] for line in as_json.stdout.splitlines()]
    assert told.count(fraud) == 1
    assert len(told) == count
    as_text = command("tail", "fraud", *kafka, *so_many)
    assert as_text.stdout.count("\n") == count
    assert "1000.50 EUR alice → bob amount-limit" in as_text.stdout


@pytest.mark.parametrize("part", ["detector", "api", "kafka.Kafka"])
def test_a_killed_part_comes_back_and_nothing_is_lost(stack: Stack, part: str) -> None:
    """After SIGKILL of a part, what was accepted before and after gets its verdict."""
    url = stack.url
    before = post(url, "1.00")
    victim = stack.part(part)
    assert victim is not None
    victim.kill()
    until(lambda: (found := stack.part(part)) is not None and found.pid != victim.pid)
    until(lambda: httpx.get(f"{url}/readyz", timeout=DEADLINE_S, verify=TRUST).status_code == 200)
    after = post(url, "2.00")
    assert {before, after} <= verdicts(url, "legit", {before, after}).keys()
