"""Kafka clients: how each is set up, and starting one against a broker that may not be up yet."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from wire import access, tls
from wire.errors import AccessError, BrokerUnreachableError
from wire.settings import KafkaSettings

log = structlog.get_logger(__name__)
ATTEMPT_S: Final = 10.0
"""A connection that takes longer is tried anew: a name may lead elsewhere by then."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
STOP_TIMEOUT_S: Final = 3.0


class Client(Protocol):
    """What the aiokafka clients have in common."""

    async def start(self) -> None:
        """Connect."""


class RawClient(AIOKafkaClient):  # type: ignore[misc] # untyped library
    """Sends single requests, and knows who leads the partitions of some topics."""

    def __init__(self, topics: Iterable[str], **options: Any) -> None:
        super().__init__(**options)
        self._wanted = tuple(topics)
        self._is_stopped = False

    async def start(self) -> None:
        """Connect, and learn who leads what."""
        # Cancelled while it waits for an answer, it would leave its connection open (aiokafka 0.14,
        # client.py): it goes on to its end.
        bootstrapping = asyncio.create_task(self._bootstrap())
        # Nobody is told of that end, be it a failure: asyncio would log it as one forgotten.
        bootstrapping.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(bootstrapping)
        await self.set_topics(self._wanted)

    async def stop(self) -> None:
        """Disconnect."""
        self._is_stopped = True
        await self.close()

    async def _bootstrap(self) -> None:
        await self.bootstrap()
        if self._is_stopped:
            await self.close()


C = TypeVar("C", bound=Client)
P = TypeVar("P", bound=AIOKafkaProducer)


def producer(settings: KafkaSettings, *, kind: type[P] = AIOKafkaProducer, **options: Any) -> P:
    """Make an idempotent producer with acks=all; not yet started."""
    made: P = kind(**_connection(settings), enable_idempotence=True, acks="all", **options)
    return made


def consumer(settings: KafkaSettings, **options: Any) -> AIOKafkaConsumer:
    """Make a consumer that reads committed records only; not yet started, no topics yet."""
    defaults: dict[str, Any] = {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
    }
    return AIOKafkaConsumer(**_connection(settings), **(defaults | options))


def admin(settings: KafkaSettings, **options: Any) -> AIOKafkaAdminClient:
    """Make an admin client; not yet started."""
    return AIOKafkaAdminClient(**_connection(settings), **options)


def client(settings: KafkaSettings, topics: Iterable[str], **options: Any) -> RawClient:
    """Make a client for requests about these topics; not yet started."""
    return RawClient(topics, **_connection(settings), **options)


async def start(
    make: Callable[[], C], *, patience: float | None = None, settings: KafkaSettings | None = None
) -> C:
    """Make and start a client, trying again with growing pauses while no broker answers.

    Args:
        make: gives a fresh client; one whose start failed can't be started again.
        patience: seconds to go on trying; None for ever.
        settings: with these, a client that is not let in is not started again and again.

    Raises:
        BrokerUnreachableError: none answered within that time.
        AccessError: Kafka does not let us in, or isn't who it should be (only with `settings`).
    """
    deadline = None if patience is None else asyncio.get_running_loop().time() + patience
    pause = FIRST_PAUSE_S
    while True:
        client = make()
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await client.start()
                if settings is not None and settings.kafka_sasl_mechanism == "OAUTHBEARER":
                    # aiokafka 0.14 takes a token for accepted as soon as it is sent.
                    await _check_access(settings)
        except (KafkaError, OSError) as error:
            await close(client)
            if settings is not None:
                await _check_access(settings, error)
            if deadline is not None and asyncio.get_running_loop().time() + pause > deadline:
                raise BrokerUnreachableError(f"no Kafka broker answers: {error}") from error
            log.warning("waiting for kafka", error=str(error) or repr(error), retry_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        except BaseException:
            await close(client)
            raise
        else:
            return client


def advertised(client: AIOKafkaAdminClient) -> list[str]:
    """Give the addresses by which the cluster's brokers want to be reached, as far as known.

    They need not be those that were set: a broker that answers there names its own.
    """
    brokers = client._client.cluster.brokers()  # noqa: SLF001 - there is no public way
    return sorted(f"{each.host}:{each.port}" for each in brokers)


async def _check_access(settings: KafkaSettings, failure: Exception | None = None) -> None:
    """Find out if a start failed for good; aiokafka tells that to its log only.

    Raises:
        AccessError: it did.
    """
    if failure and (refusal := access.refused(failure, settings)):
        raise refusal from failure
    if settings.kafka_security_protocol == "PLAINTEXT":
        return  # nobody is asked who they are
    options = _connection(settings)
    addresses = collect_hosts(options.pop("bootstrap_servers"))
    options.pop("metadata_max_age_ms")
    for host, port, _ in addresses:
        try:
            async with asyncio.timeout(ATTEMPT_S / len(addresses)):
                await _ask_in(host, port, settings, options)
        except (KafkaError, OSError) as error:  # another one may answer
            if refusal := access.refused(error, settings):
                raise refusal from error
        else:
            return


async def _ask_in(host: str, port: int, settings: KafkaSettings, options: dict[str, Any]) -> None:
    """Ask one broker something.

    Raises:
        AccessError: it does not let us in, or isn't who it should be.
        KafkaError, OSError: it does not answer, or refuses.
    """
    try:
        connection = await create_conn(host, port, **options)
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message
        text = f"Kafka at {host}:{port} has a certificate that is not trusted: {why}"
        raise AccessError(text) from error
    try:
        metadata = await connection.send(MetadataRequest([]))
    finally:
        connection.close()
        await asyncio.sleep(0)  # its socket is closed in the loop's next turn
    if not metadata.brokers:  # what it was sent is no answer to that, but a refusal
        who = access.principal(settings)
        raise AccessError(f"Kafka does not let {who} in: the token is not accepted")


async def close(client: Any) -> None:
    """Stop a client within a deadline: aiokafka's own stop waits for a broker that is down."""
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    error = await _settle(stop())
    if isinstance(error, asyncio.CancelledError) and isinstance(client, AIOKafkaConsumer):
        # A consumer's stop cancels its pending fetches, then awaits them: it ends by their
        # CancelledError before it has closed its connections (aiokafka 0.14, fetcher.py).
        error = await _settle(client._client.close())  # noqa: SLF001 - there is no public way
    if error is not None:
        log.warning(
            "kafka client did not stop cleanly", client=type(client).__name__, error=repr(error)
        )


async def _settle(stopping: Coroutine[Any, Any, None]) -> BaseException | None:
    """Run it in a task of its own, so that no CancelledError of its making ends the caller."""
    task = asyncio.create_task(stopping)
    try:
        done, _ = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    finally:
        task.cancel()  # does nothing where it has ended
    if not done:
        return TimeoutError(f"still busy after {STOP_TIMEOUT_S} s")
    return asyncio.CancelledError() if task.cancelled() else task.exception()


def _connection(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_broker_url,
        "security_protocol": settings.kafka_security_protocol,
        "client_id": "fraudstream",
        "metadata_max_age_ms": 30_000,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
        if settings.kafka_sasl_mechanism == "OAUTHBEARER":
            from wire import oauth  # noqa: PLC0415 - few need an HTTP client for Kafka

            options["sasl_oauth_token_provider"] = oauth.provider(settings)
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = tls.context(settings)
    return options
