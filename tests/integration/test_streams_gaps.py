"""Streams whose topics change: history that is gone, topics made anew, partitions added."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete

from api.streams.position import FRAUD
from tests.streaming import DEADLINE_S, Writer, add_partitions, begun, reading, writing
from wire import kafka
from wire.settings import KafkaSettings

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


async def test_history_that_is_gone_is_told(
    gateway: httpx.AsyncClient,
    serve_gateway: Serve,
    writer: Writer,
    kafka_settings: KafkaSettings,
) -> None:
    """An `event: gap` names partition and offsets, once; then the stream goes on."""
    async with reading(gateway.base_url, "/stream/fraud") as reader:
        start = (await begun(reader)).last_id
    for _ in range(5):
        await writer.write(FRAUD, 0)
    cut = writer.offsets[FRAUD, 0][3]
    admin = await kafka.start(lambda: kafka.admin(kafka_settings))
    await admin.delete_records(
        {TopicPartition(kafka_settings.fraud_topic, 0): RecordsToDelete(before_offset=cut)}
    )
    await kafka.close(admin)
    async with serve_gateway(kafka_settings) as fresh:  # one that has not read them before
        async with reading(fresh.base_url, "/stream/fraud", start) as reader:
            gap = await reader.event()
            assert gap.get("event") == "gap"
            assert json.loads(gap.get("data") or "") == {
                "missing": [
                    {
                        "topic": kafka_settings.fraud_topic,
                        "partition": 0,
                        "expected_offset": 0,
                        "next_offset": cut,
                    }
                ]
            }
            after = reader.last_id
            assert await reader.ids(2) == ["0-0-3", "0-0-4"]
        async with reading(fresh.base_url, "/stream/fraud", after) as reader:
            assert await reader.ids(2) == ["0-0-3", "0-0-4"]
        async with reading(fresh.base_url, "/stream/fraud?since=1") as reader:
            again = await reader.event()
            assert (again.get("event"), again.get("data")) == ("gap", gap.get("data"))
            assert await reader.ids(2) == ["0-0-3", "0-0-4"]
        async with reading(fresh.base_url, "/stream/fraud?since=earliest") as reader:
            assert await reader.ids(2) == ["0-0-3", "0-0-4"]  # all that there is was asked for


async def test_a_topic_made_anew_is_a_gap_and_then_live(
    gateway: httpx.AsyncClient, writer: Writer, kafka_settings: KafkaSettings
) -> None:
    """A position beyond the end, and a live client, are told, and both go on."""
    topic = kafka_settings.fraud_topic
    async with reading(gateway.base_url, "/stream/fraud") as reader:
        await begun(reader)
        for _ in range(5):
            await writer.write(FRAUD, 0)
        await reader.ids(5)
        old = reader.last_id
        admin = await kafka.start(lambda: kafka.admin(kafka_settings))
        await admin.delete_topics([topic])
        async with asyncio.timeout(DEADLINE_S):
            while topic in await admin.list_topics():
                await asyncio.sleep(0.1)
            while (await admin.create_topics([NewTopic(topic, 4, 1)])).topic_errors[0][1]:
                await asyncio.sleep(0.1)
        await kafka.close(admin)
        async with writing(kafka_settings, f"{topic}-again") as again:
            await again.write(FRAUD, 0)
            await again.write(FRAUD, 0)
            assert (await reader.event()).get("event") == "gap"
            assert await reader.ids(2) == ["0-0-0", "0-0-1"]
            async with reading(gateway.base_url, "/stream/fraud", old) as late:
                assert (await late.event()).get("event") == "gap"
                await again.write(FRAUD, 0)
                assert await late.ids(1) == ["0-0-2"]


async def test_partitions_that_are_added_are_followed(
    kafka_settings: KafkaSettings, serve_gateway: Serve
) -> None:
    """An id from before has them from their start."""
    async with (
        serve_gateway(kafka_settings) as before,
        reading(before.base_url, "/stream/fraud") as reader,
    ):
        old = (await begun(reader)).last_id
    await add_partitions(kafka_settings, kafka_settings.fraud_topic, 6)
    async with writing(kafka_settings, f"{kafka_settings.fraud_topic}-again") as again:
        await again.write(FRAUD, 5)
        await again.write(FRAUD, 0)
        async with (
            serve_gateway(kafka_settings) as after,
            reading(after.base_url, "/stream/fraud", old) as reader,
        ):
            assert sorted(await reader.ids(2)) == ["0-0-0", "0-5-0"]
