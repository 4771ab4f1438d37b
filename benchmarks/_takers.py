"""Who takes transactions from topic to topic: the detector, and the plain loop beside it."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from wire import kafka, logs
from wire.settings import TopicSettings


@contextmanager
def detector(of: TopicSettings, **options: str) -> Iterator[psutil.Process]:
    """Run a detector process."""
    environment = os.environ | {
        "KAFKA_BROKER_URL": of.kafka_broker_url,
        "TRANSACTIONS_TOPIC": of.transactions_topic,
        "LEGIT_TOPIC": of.legit_topic,
        "FRAUD_TOPIC": of.fraud_topic,
        "DEAD_LETTER_TOPIC": of.dead_letter_topic,
        "DETECTOR_GROUP": of.transactions_topic,
        "LOG_LEVEL": "warning",
        "AUDIT_LOG": os.devnull,
        **options,
    }
    process = subprocess.Popen([sys.executable, "-m", "detector"], env=environment)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        assert process.wait(20) == 0


async def plain_loop(of: TopicSettings, group: str) -> None:
    """The reference: a topic copied in transactions as aiokafka's documentation has it."""
    consumer = kafka.consumer(of, group_id=group, auto_offset_reset="earliest")
    producer = kafka.producer(of, transactional_id=group)
    await consumer.start()
    await producer.start()
    consumer.subscribe([of.transactions_topic])
    while True:
        polled: dict[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=200)
        if not polled:
            continue
        async with producer.transaction():
            offsets = {}
            for partition, records in polled.items():
                for record in records:
                    await producer.send(
                        of.legit_topic,
                        record.value,
                        key=record.key,
                        partition=record.partition,
                    )
                offsets[partition] = OffsetAndMetadata(records[-1].offset + 1, "")
            await producer.send_offsets_to_transaction(offsets, group)


@contextmanager
def plain_process(of: TopicSettings, group: str = "") -> Iterator[psutil.Process]:
    """Run the plain loop in a process of its own."""
    arguments = of, group or of.transactions_topic
    process = multiprocessing.get_context("spawn").Process(target=_plain, args=arguments)
    process.start()
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.join()


def _plain(of: TopicSettings, group: str) -> None:
    logs.configure(of, "plain")
    asyncio.run(plain_loop(of, group))
