"""Connections that are lost, brokers that are away: told as it is, and made good."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from playwright.async_api import expect

from tests.browser.stage import Gateway, Verdicts, Watched, verdict
from tests.cluster import Cluster
from wire import kafka, topics
from wire.settings import TopicSettings

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = "#list .list-body [role=row]"


@pytest.fixture
def own_gateway(site_settings: TopicSettings, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that the test may kill and start again, on the session's Kafka."""
    part = Gateway(site_settings, tmp_path / "log")
    part.start()
    yield part
    part.end(signal.SIGKILL)


async def test_lost_connection_resumes_with_nothing_missing(
    new_page: Callable[..., Any], own_gateway: Gateway, verdicts: Verdicts
) -> None:
    """A killed gateway: the page says since when, and then shows all that came meanwhile, once."""
    watched: Watched = await new_page(own_gateway)
    page = await watched.open("/stream/all?account=acct-resume")
    await verdicts.publish([verdict("1.00", source="acct-resume")])
    await expect(page.locator(ROWS)).to_have_count(1)

    own_gateway.end(signal.SIGKILL)
    await expect(page.locator("#banner")).to_contain_text("Connection lost at")
    await expect(page.locator("#connection")).to_have_text("Reconnecting")
    await verdicts.publish([verdict(f"{n}.00", source="acct-resume") for n in range(2, 7)])
    own_gateway.start()

    await expect(page.locator("#banner")).to_contain_text("Nothing is missing")
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator(ROWS)).to_have_count(6)
    await expect(page.locator("#received")).to_have_text("6")


async def test_gap_is_told(
    new_page: Callable[..., Any], own_gateway: Gateway, verdicts: Verdicts
) -> None:
    """Where Kafka has deleted what was missed, the page says how much, and does not say "all".

    Not after another loss that cost nothing either, until somebody has read it.
    """
    watched: Watched = await new_page(own_gateway)
    page = await watched.open("/stream/fraud")
    await verdicts.publish([verdict("901.00", source="acct-gap")])
    await expect(page.locator(ROWS)).to_have_count(1)

    own_gateway.end(signal.SIGKILL)
    await verdicts.publish([verdict(f"{n}.00", source="acct-gap") for n in range(902, 907)])
    await _delete_all(verdicts.settings, verdicts.settings.fraud_topic)
    own_gateway.start()

    await expect(page.locator("#banner")).to_contain_text("5 of")
    await expect(page.locator("#banner")).to_contain_text("missing")
    await verdicts.publish([verdict("910.00", source="acct-gap")])
    await expect(page.locator(ROWS)).to_have_count(2)
    await expect(page.locator("#banner")).to_contain_text("missing")

    own_gateway.end(signal.SIGKILL)
    await expect(page.locator("#banner")).to_contain_text("Connection lost at")
    own_gateway.start()
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#banner")).to_contain_text("5 of")
    await expect(page.locator("#banner-close")).to_be_visible()
    await page.click("#banner-close")
    await expect(page.locator("#banner")).to_be_hidden()


@pytest_asyncio.fixture(loop_scope="session")
async def away(own_settings: TopicSettings, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on a broker that the test may stop."""
    part = Gateway(own_settings, tmp_path / "log")
    part.start()
    yield part
    part.end(signal.SIGKILL)


async def test_broker_outage_is_shown_and_recovered(
    new_page: Callable[..., Any],
    own_broker: Cluster,
    own_settings: TopicSettings,
    away: Gateway,
) -> None:
    """While Kafka is away both pages say so and a post says it failed; then all goes on."""
    watched: Watched = await new_page(away)
    page = await watched.open("/")
    own_broker.kill()
    await expect(page.locator("#connection")).to_have_text("Waiting for Kafka")
    await expect(page.locator("#banner")).to_contain_text("can't reach Kafka")
    await page.click("#post-send")
    await expect(page.locator("#outcome .problem")).to_contain_text("Kafka")
    assert watched.failed_loads  # the 503

    await own_broker.start()
    await expect(page.locator("#connection")).to_have_text("Live")
    await Verdicts(own_settings).publish([verdict("950.00")])
    await expect(page.locator("#latest [role=listitem]")).to_have_count(1)


async def _delete_all(settings: TopicSettings, topic: str) -> None:
    """Have Kafka forget all records of a topic, as retention does."""
    client = await kafka.start(lambda: kafka.admin(settings), patience=10)
    try:
        partitions = (await topics.wait(settings, topic))[topic]
        await client.delete_records(
            {TopicPartition(topic, number): RecordsToDelete(-1) for number in range(partitions)}
        )
    finally:
        await kafka.close(client)
