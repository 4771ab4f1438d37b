"""Kafka with TLS, sign-in and ACLs: parts work with the least rights, and tell what they lack."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from confluent_kafka.admin import NewTopic
from structlog.testing import capture_logs

from api import listener
from api.ingest.link import Link
from api.settings import ApiSettings
from compose import jars
from tests import secured
from tests.certificates import Authority
from tests.cluster import Cluster
from tests.processes import Process, Programs, environment, is_ready, until
from tests.secured import PASSWORD, Secured
from tests.token_endpoint import TokenEndpoint, token_endpoint
from tests.trust import TRUST
from wire import kafka, oauth, topics
from wire.errors import AccessError
from wire.settings import KafkaSettings, TopicSettings

TOPICS = {
    f"{name}_topic": f"s.{name}" for name in ("transactions", "legit", "fraud", "dead_letter")
}
DEADLINE_S = 40
GROUP = "fraudstream-detector"
READS_VERDICTS = ("Read topic s.legit", "Read topic s.fraud")
# As docs/past-one-machine.md lists them. Read and Write bring Describe with them.
RIGHTS: dict[str, tuple[str, ...]] = {
    "topics": ("Create topic s.*", "Describe topic s.*"),
    "gateway": ("Write topic s.transactions", *READS_VERDICTS),
    "detector": (
        "Read topic s.transactions",
        *(f"Write topic s.{name}" for name in ("legit", "fraud", "dead_letter")),
        f"Read group {GROUP}",
        f"Write transactional_id {GROUP}.*",
    ),
    "loadgen": ("Write topic s.transactions", *READS_VERDICTS),
    "tail": READS_VERDICTS,
    "verify": tuple(f"Read topic {name}" for name in TOPICS.values()),
}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "mTLS")


@pytest.fixture(autouse=True)
async def connections_end() -> AsyncIterator[None]:
    """Leave no connection of the test half closed: over TLS, an end waits for the other side's."""
    yield
    sockets = asyncio.get_running_loop()._selector
    async with asyncio.timeout(DEADLINE_S):
        # The loop has one of its own.
        while len(sockets.get_map()) > 1:
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def broker(
    tmp_path_factory: pytest.TempPathFactory, kafka_installation: jars.Installation
) -> Iterator[Secured]:
    """Run a Kafka with an authorizer; each part's principal has its rights, and no others."""
    directory = tmp_path_factory.mktemp("secured")
    cluster, made = secured.start(
        lambda **options: Cluster(directory / "kafka", kafka_installation, **options),
        directory,
        ["tail", "probe"],
    )
    try:
        made.add_users("gateway", "loadgen", "verify", "probe", "nobody", "half")
        for user, rights in RIGHTS.items():
            made.allow(user, *rights)
        made.allow("probe", "Write topic probe", "Read topic probe")
        client = made.admin
        for future in client.create_topics([NewTopic("probe", 1, 1)]).values():
            future.result(20)
        yield made
    finally:
        cluster.kill()


def settings(broker: Secured, name: str, mechanism: str, **given: Any) -> TopicSettings:
    """Give a part's settings."""
    return TopicSettings(**{**TOPICS, **broker.options(name, mechanism), **given})


def started(run: Programs, *argv: str, of: KafkaSettings, **given: object) -> Process:
    """Start a subcommand."""
    env = environment(of, log_format="json", **given)
    return run.start("-m", "compose", *argv, env=env)


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_every_way_to_sign_in(broker: Secured, mechanism: str) -> None:
    """A record goes in and comes out."""
    of = settings(broker, "probe", mechanism)
    value = mechanism.encode()
    producer = await kafka.start(lambda: kafka.producer(of), settings=of, patience=10)
    consumer = await kafka.start(lambda: kafka.consumer(of), settings=of, patience=10)
    try:
        sent = await producer.send_and_wait("probe", value)
        partition = TopicPartition("probe", 0)
        consumer.assign([partition])
        consumer.seek(partition, sent.offset)
        assert (await consumer.getone()).value == value
    finally:
        await kafka.close(producer)
        await kafka.close(consumer)


def test_parts_work_with_the_least_rights(broker: Secured, run: Programs) -> None:
    """Topics are made, transactions decided, verdicts read, the log audited: by five principals."""
    made = started(run, "topics", of=settings(broker, "topics", "OAUTHBEARER"))
    assert made.wait() == 0, made.output
    again = started(run, "topics", of=settings(broker, "verify", "SCRAM-SHA-256"))
    assert again.wait() == 0, again.output  # they are there: no right to make any is needed
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        env = environment(settings(broker, "gateway", "SCRAM-SHA-512"))
        gateway = run.start("-m", "api", "--api-fd", str(fd), env=env, fds=(fd,))
        started(run, "detector", of=settings(broker, "detector", "mTLS"))
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=40, verify=TRUST) as client:
            until(lambda: is_ready(client), lambda: gateway.output)
            body = {"source": "anna", "target": "ben", "amount": "900.01"}
            answer = client.post("/transactions", json=body, headers={"Prefer": "wait=30"})
            assert answer.json()["verdict"]["decision"] == "fraud"
    once = ("--from-beginning", "--max-messages", "1", "--json")
    tail = started(run, "tail", "fraud", *once, of=settings(broker, "tail", "PLAIN"))
    assert tail.wait() == 0, tail.output
    assert json.loads(tail.output)["amount"] == "900.01"
    load = ("--target", "kafka", "--tps", "50", "--duration", "1", "--verify", "--json")
    loadgen = started(run, "loadgen", *load, of=settings(broker, "loadgen", "SCRAM-SHA-256"))
    assert loadgen.wait() == 0, loadgen.output
    audit = started(run, "verify", "--json", of=settings(broker, "verify", "SCRAM-SHA-512"))
    assert audit.wait() == 0, audit.output
    assert PASSWORD not in "".join(each.output for each in run.started)


@dataclass(frozen=True)
class Lack:
    """A start that must fail: what runs, with what rights, and what it must say."""

    argv: tuple[str, ...]
    rights: tuple[str, ...]
    says: str
    code: int = 2


def without(part: str, right: str) -> tuple[str, ...]:
    """Give a part's rights, one left out."""
    assert right in RIGHTS[part]
    return tuple(each for each in RIGHTS[part] if each != right)


READ = ("--from-beginning", "--max-messages", "1")
DESCRIBES = tuple(f"Describe topic {name}" for name in TOPICS.values())
LACKS = [
    Lack(("topics",), ("Describe topic s.*", "Describe topic n.*"), "Create on topic n.new"),
    Lack(("topics",), (), "Describe on topic"),
    Lack(("tail", "fraud", *READ), (), "Describe on topic s.fraud"),
    Lack(("tail", "fraud", *READ), ("Describe topic s.fraud",), "Read or Write on topic s.fraud"),
    Lack(("verify",), DESCRIBES, "Read or Write on topic s."),
    Lack(("loadgen", "--target", "kafka"), (), "Describe on topic s.transactions"),
    Lack(
        ("detector",),
        without("detector", f"Read group {GROUP}"),
        f"Read on group {GROUP}",
        1,
    ),
    Lack(
        ("detector",),
        without("detector", f"Write transactional_id {GROUP}.*"),
        f"Describe and Write on transactional id {GROUP}.s.transactions.",
        1,
    ),
    Lack(
        ("detector",),
        (*without("detector", "Read topic s.transactions"), "Describe topic s.transactions"),
        "Read on topic s.transactions",
        1,
    ),
    Lack(
        ("detector",),
        (*without("detector", "Write topic s.fraud"), "Describe topic s.fraud"),
        "Write on topic s.fraud",
        1,
    ),
    Lack(("detector",), without("detector", "Write topic s.fraud"), "Describe on topic s.fraud", 1),
]


@pytest.fixture(scope="module")
def with_topics(broker: Secured) -> Secured:
    """Have the topics made, and a fraud in each partition for whoever decides."""
    names = [*TOPICS.values()]
    client = broker.admin
    there = client.list_topics(timeout=20).topics
    wanted = [NewTopic(name, 4, 1) for name in names if name not in there]
    if wanted:
        for future in client.create_topics(wanted).values():
            future.result(20)
    return broker


@pytest.mark.parametrize("number", range(len(LACKS)), ids=lambda n: f"{LACKS[n].says}-{n}")
def test_a_missing_right_is_told(with_topics: Secured, run: Programs, number: int) -> None:
    """One line names the principal and what it lacks; the exit code is no success."""
    broker, lack = with_topics, LACKS[number]
    user = f"lacking-{number}"
    broker.add_users(user)
    if lack.rights:
        broker.allow(user, *lack.rights)
    new = {"transactions_topic": "n.new"} if "n.new" in lack.says else {}
    if lack.argv[0] == "detector" and "Write on topic" in lack.says:
        feed(broker)
    of = settings(broker, user, "SCRAM-SHA-256", **new)
    process = started(run, *lack.argv, of=of)
    assert process.wait() == lack.code, process.output
    assert lack.says in process.output
    assert f"user '{user}'" in process.output
    assert "Traceback" not in process.output
    assert PASSWORD not in process.output


@pytest.mark.parametrize(
    ("right", "says"),
    [
        ("Read topic s.transactions", "Read on topic s.transactions"),
        ("Write topic s.fraud", "Write on topic s.fraud"),
        (f"Read group {GROUP}", f"Read on group {GROUP}"),
        (f"Write transactional_id {GROUP}.*", f"Write on transactional id {GROUP}.s.transactions."),
    ],
)
def test_a_right_that_is_taken_away_is_told(
    with_topics: Secured, run: Programs, right: str, says: str
) -> None:
    """A detector at work ends, and names what it lacks from then on."""
    user = f"losing-{'-'.join(right.split()[:2])}"
    with_topics.add_users(user)
    with_topics.allow(user, *RIGHTS["detector"])
    process = started(run, "detector", of=settings(with_topics, user, "SCRAM-SHA-256"))
    until(lambda: process.output.count('"working"') == 4)
    with_topics.take(user, right)
    feed(with_topics)
    assert process.wait() == 1, process.output
    assert says in process.output.splitlines()[-1]
    assert f"user '{user}'" in process.output


def feed(broker: Secured) -> None:
    """Put a fraud into every partition of the transactions topic."""
    from confluent_kafka import Producer  # noqa: PLC0415

    producer = Producer({"bootstrap.servers": broker.address})
    body = b'{"transaction_id": "%d", "source": "a", "target": "b", "amount": "9000"}'
    for partition in range(4):
        value = body % os.urandom(2)[0]
        producer.produce(TOPICS["transactions_topic"], value, b"a", partition)
    assert producer.flush(20) == 0


def test_a_gateway_without_rights_says_so_and_recovers(with_topics: Secured, run: Programs) -> None:
    """It takes nothing in and is not ready; with the rights given, it goes on by itself."""
    broker = with_topics
    of = settings(broker, "half", "SCRAM-SHA-512")
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        fd = sock.fileno()
        env = environment(of, log_format="json", delivery_timeout=3)
        gateway = run.start("-m", "api", "--api-fd", str(fd), env=env, fds=(fd,))
        base = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with httpx.Client(base_url=base, timeout=40, verify=TRUST) as client:
            until(lambda: "Describe on topic s.transactions" in gateway.output)
            body = {"source": "anna", "target": "ben", "amount": "1"}
            assert client.post("/transactions", json=body).status_code == 503
            assert client.get("/readyz").status_code == 503
            broker.allow("half", "Describe topic s.transactions", *READS_VERDICTS)
            until(lambda: "Write on a topic that it writes to" in gateway.output)
            broker.allow("half", "Write topic probe")  # now it may write, but not there
            until(lambda: is_ready(client), lambda: gateway.output)
            answer = client.post("/transactions", json=body)
            assert answer.status_code == 503
            assert "half" not in answer.text  # who we are to Kafka is none of a client's business
            until(lambda: "Write on topic s.transactions" in gateway.output)
            broker.allow("half", "Write topic s.transactions")
            until(lambda: client.post("/transactions", json=body).status_code == 202)
    assert "user 'half' (SCRAM-SHA-512) lacks a right" in gateway.output


async def test_a_gateway_goes_on_when_certificate_and_key_fit_again(with_topics: Secured) -> None:
    """Half of a renewed pair, met when it connects, is told and tried again."""
    broker = with_topics
    options = broker.options("gateway", "mTLS")
    key, other = options["kafka_ssl_keyfile"], broker.authority.certify("other").key
    right = key.read_bytes()
    link = Link(ApiSettings(**TOPICS, **options), lambda _: None, lambda _: None)
    key.write_bytes(other.read_bytes())
    with capture_logs() as logged:
        link.start()
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not logged:
                    await asyncio.sleep(0.05)
                key.write_bytes(right)
                await link.producer()
        finally:
            await link.stop()
    assert (logged[0]["event"], "KAFKA_SSL_KEYFILE" in logged[0]["error"]) == (
        "kafka refuses",
        True,
    )


async def test_a_refusal_is_told_by_whichever_broker_answers(broker: Secured) -> None:
    """The first of the addresses may be down."""
    wrong = settings(broker, "probe", "SCRAM-SHA-256", kafka_sasl_password="c4n4ry-wrong")
    with closing(listener.bind("127.0.0.1", 0)) as sock:
        down = f"127.0.0.1:{sock.getsockname()[1]}"
    for addresses in (f"{down},{broker.sasl}", f"{broker.sasl},{down}"):
        of = wrong.model_copy(update={"kafka_broker_url": addresses})
        with pytest.raises(AccessError, match="user 'probe'"):
            await kafka.start(lambda of=of: kafka.admin(of), settings=of, patience=5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kafka_sasl_password": "c4n4ry-wrong"}, "user 'probe' (SCRAM-SHA-256)"),
        ({"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_username": "half"}, "user 'half' (PLAIN)"),
        ({"kafka_ssl_cafile": None}, "certificate that is not trusted"),
    ],
)
async def test_who_is_not_let_in_is_told(broker: Secured, given: dict[str, Any], says: str) -> None:
    """A wrong password or authority ends a start at once, and is never shown."""
    of = settings(broker, "probe", "SCRAM-SHA-256", **given)
    with pytest.raises(AccessError) as caught:
        await topics.wait(of, "probe")
    assert says in str(caught.value)
    assert "c4n4ry" not in str(caught.value)


async def test_another_authority_is_not_trusted(broker: Secured, tmp_path: Path) -> None:
    """Who answers must be who the authority says."""
    other = Authority(tmp_path, "other").file
    of = settings(broker, "probe", "SCRAM-SHA-256", kafka_ssl_cafile=other)
    with pytest.raises(AccessError, match="not trusted"):
        await topics.wait(of, "probe")


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    """Serve tokens, or whatever the test says."""
    with token_endpoint() as made:
        yield made


def bearer(broker: Secured, endpoint: TokenEndpoint, **given: Any) -> TopicSettings:
    """Give settings that ask the endpoint for tokens."""
    options = {
        "kafka_broker_url": broker.sasl,
        "kafka_ssl_cafile": broker.authority.file,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "OAUTHBEARER",
        "kafka_oauth_token_url": endpoint.url,
        "kafka_oauth_client_id": f"probe-{endpoint.url}",  # no other test's token
        "kafka_oauth_client_secret": "c4n4ry-secret",
    }
    return TopicSettings(**{**TOPICS, **options, **given})


async def test_tokens_come_from_an_endpoint_and_are_renewed(
    broker: Secured, endpoint: TokenEndpoint
) -> None:
    """One token serves all connections until it is near its end; then there is a new one."""
    token = broker.issuer.token("probe")
    endpoint.body = json.dumps({"access_token": token, "expires_in": 300}).encode()
    of = bearer(broker, endpoint, kafka_oauth_scope="kafka")
    assert (await topics.wait(of, "probe")) == {"probe": 1}
    assert (await topics.wait(of, "probe")) == {"probe": 1}
    assert endpoint.asked == 1
    assert endpoint.form == "grant_type=client_credentials&scope=kafka"
    assert endpoint.authorization.startswith("Basic ")
    assert await oauth.provider(of).token() == token

    endpoint.body = json.dumps({"access_token": "short", "expires_in": 0}).encode()
    other = oauth.provider(bearer(broker, endpoint, kafka_oauth_scope="short"))
    assert [await other.token(), await other.token()] == ["short", "short"]
    assert endpoint.asked == 3

    endpoint.body = json.dumps({"access_token": "kept", "expires_in": "300"}).encode()
    third = oauth.provider(bearer(broker, endpoint, kafka_oauth_scope="kept"))
    assert [await third.token(), await third.token()] == ["kept", "kept"]
    assert endpoint.asked == 4


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, b'{"error": "invalid_client"}'), (400, b"<html>"), (200, b'{"access_token": "bad"}')],
)
async def test_a_token_that_is_refused_is_told(
    broker: Secured, endpoint: TokenEndpoint, status: int, body: bytes
) -> None:
    """By the endpoint, or by Kafka: either way a start ends with the cause."""
    endpoint.status, endpoint.body = status, body
    with pytest.raises(AccessError, match="does not let the bearer of the token of probe") as told:
        await topics.wait(bearer(broker, endpoint), "probe")
    assert "c4n4ry" not in str(told.value)
