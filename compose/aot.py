"""Kafka's AOT cache: made once for each installation by a training run, for fast starts.

It holds Kafka's classes loaded and linked (JEP 483, 514). The JVM checks it against its own build
and the class path and starts without it when it does not fit or is missing: it can make a start
faster, never break one.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from compose import broker, jvm, leash
from compose.broker import BrokerNode
from compose.jars import Installation, held, scratch
from wire import kafka
from wire.errors import FraudstreamError
from wire.settings import KafkaSettings, load

log = structlog.get_logger(__name__)
WORK_TIMEOUT_S: Final = 60.0
WRITE_TIMEOUT_S: Final = 120.0
"""Longest wait for the JVM to write the cache; it takes about five seconds."""
TRAINING_RECORDS: Final = 200


def is_made(installation: Installation) -> bool:
    """Tell whether there is nothing left to do, because it is there or could not be made."""
    return jvm.aot_cache(installation).exists() or _failed(installation).exists()


def ensure(installation: Installation) -> None:
    """Make the cache unless it is there; a failure is logged, and not tried again."""
    if is_made(installation):
        return
    try:
        with held(installation.home / "aot.lock"):
            if not is_made(installation):  # another process may just have been here
                _try(installation)
    except OSError as error:  # the jars lie where nothing can be written
        log.warning("kafka starts without its aot cache", error=str(error))


def _try(installation: Installation) -> None:
    try:
        with scratch(installation.home, "training") as directory:
            _train(installation, directory)
    except (FraudstreamError, KafkaError, OSError, subprocess.SubprocessError) as error:
        log.warning("kafka starts without its aot cache", error=str(error))
        _failed(installation).touch()


def _failed(installation: Installation) -> Path:
    return jvm.aot_cache(installation).with_suffix(".failed")


def _train(installation: Installation, directory: Path) -> None:
    new = directory / "new.aot"
    (node,) = broker.prepare(
        directory / "data", installation, port=0, flags=(f"-XX:AOTCacheOutput={new}",)
    )
    with (directory / "log").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *node.argv),
            env=os.environ | node.env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            asyncio.run(asyncio.wait_for(_work(node), WORK_TIMEOUT_S))
            process.terminate()
            process.wait(WRITE_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
    new.replace(jvm.aot_cache(installation))


async def _work(node: BrokerNode) -> None:
    """Have the broker do once what it will be asked for: a topic, a transaction with offsets."""
    await broker.answers(node.address)
    settings = load(
        KafkaSettings, kafka_broker_url=node.address, kafka_security_protocol="PLAINTEXT"
    )
    partition = TopicPartition("training", 0)
    admin = await kafka.start(lambda: kafka.admin(settings))
    producer: AIOKafkaProducer = kafka.producer(settings, transactional_id="training")
    consumer = kafka.consumer(settings)
    try:
        await admin.create_topics([NewTopic(partition.topic, 1, 1)])
        await producer.start()
        async with producer.transaction():
            for _ in range(TRAINING_RECORDS):
                await producer.send(partition.topic, b"training", partition=partition.partition)
            await producer.send_offsets_to_transaction({partition: TRAINING_RECORDS}, "training")
        await consumer.start()
        consumer.assign([partition])
        consumer.seek(partition, 0)
        for _ in range(TRAINING_RECORDS):
            await consumer.getone()
    finally:
        await kafka.close(consumer)
        await kafka.close(producer)
        await kafka.close(admin)
