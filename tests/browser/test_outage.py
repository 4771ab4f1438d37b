"""Connections that are lost, brokers that are away: told as it is, and made good."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from playwright.async_api import Route, expect

from tests.browser.stage import Gateway, Verdicts, Watched, line, verdict
from tests.cluster import Cluster
from tests.streaming import begun, reading
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


async def test_dead_connection_is_noticed(
    new_page: Callable[..., Any], site_settings: TopicSettings, tmp_path: Path, verdicts: Verdicts
) -> None:
    """A stream through which nothing comes any more, as after a sleep, is opened anew, and goes on.

    Nothing tells a client that its peer has gone but that the heartbeats stay away.
    """
    beating = Gateway(site_settings, tmp_path / "log", STREAM_HEARTBEAT_SECONDS="0.3")
    beating.start()
    try:
        async with line(beating) as to_gateway:
            watched: Watched = await new_page(to_gateway)
            page = await watched.open("/stream/all?account=acct-asleep")
            await verdicts.publish([verdict("1.00", source="acct-asleep")])
            await expect(page.locator(ROWS)).to_have_count(1)
            to_gateway.die()
            await verdicts.publish([verdict("2.00", source="acct-asleep")])
            await expect(page.locator(ROWS)).to_have_count(2)
            await expect(page.locator("#banner")).to_contain_text("Nothing is missing")
            await expect(page.locator("#received")).to_have_text("2")
            await page.close()
    finally:
        beating.end(signal.SIGKILL)


async def test_what_a_filter_left_out_is_not_missing(
    new_page: Callable[..., Any], own_gateway: Gateway, verdicts: Verdicts
) -> None:
    """A page that nothing came to goes on from where its stream stood, not from where it began.

    So too where a proxy answers while the gateway is away, which ends an EventSource.
    """
    watched: Watched = await new_page(own_gateway)
    path = "/stream/fraud?account=acct-nobody"
    page = await watched.open(path)
    async with reading(own_gateway.url, "/stream/fraud", account="acct-nobody") as reader:
        start = (await begun(reader)).last_id
        await verdicts.publish([verdict(source="acct-other") for _ in range(5)])
        while reader.last_id == start:
            await reader.block()

    async def refuse(route: Route) -> None:
        await route.fulfill(status=502, content_type="text/plain", body="bad gateway")

    await page.route("**/stream/**", refuse)
    own_gateway.end(signal.SIGKILL)
    await expect(page.locator("#connection")).to_have_text("Reconnecting")
    await _delete_all(verdicts.settings, verdicts.settings.fraud_topic)
    own_gateway.start()
    async with page.expect_response(lambda answer: answer.status == 502):
        pass
    await page.unroute("**/stream/**")
    await expect(page.locator("#banner")).to_contain_text("Nothing is missing")
    await verdicts.publish([verdict(source="acct-nobody")])
    await expect(page.locator(ROWS)).to_have_count(1)
    assert "Kafka no longer has" not in await page.locator("#banner").inner_text()


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


async def test_a_page_in_place_of_the_stream_is_no_stream(
    site: Watched, verdicts: Verdicts
) -> None:
    """Such as a network's sign-in page: it is told, and the stream is there when that has gone."""
    portal = "<html>\n\ndata: sign in first\n\n</html>"
    await site.page.route(
        "**/stream/all*",
        lambda route: (
            route.fulfill(content_type="text/html", body=portal)
            if route.request.resource_type != "document"
            else route.continue_()
        ),
    )
    page = site.page
    await page.goto(f"{site.url}/stream/all?account=acct-cafe")
    await expect(page.locator("#banner")).to_contain_text("Something else answers")
    await expect(page.locator("#connection")).to_have_text("Connecting")
    await page.unroute("**/stream/all*")
    await expect(page.locator("#connection")).to_have_text("Live")
    await verdicts.publish([verdict(source="acct-cafe")])
    await expect(page.locator("#received")).to_have_text("1")


async def test_unanswered_questions_are_not_kafkas_fault(site: Watched, verdicts: Verdicts) -> None:
    """Kafka is named only where the gateway says so: not where it is silent, or asked too often."""
    page = await site.open("/stream/all?account=acct-asked")
    problem = {"type": "/problems/too-many-requests", "status": 429}
    await page.route("**/status.json", lambda route: route.fulfill(status=429, json=problem))
    for _ in range(4):  # for longer than a gateway has to become ready
        async with page.expect_response("**/status.json"):
            pass
    await verdicts.publish([verdict(source="acct-asked")])
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page.locator("#connection")).to_have_text("Live")

    await page.unroute("**/status.json")
    await page.route("**/status.json", lambda route: route.abort())
    await expect(page.locator("#connection")).to_have_text("No answer")
    await page.unroute("**/status.json")
    await expect(page.locator("#banner")).to_contain_text("The gateway answers again")


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
