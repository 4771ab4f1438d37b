"""A real browser on a real gateway: Chromium, driven by Playwright, and Kafka behind it."""

import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from tests.browser.stage import Gateway, Part, Verdicts, Watched
from wire import topics
from wire.settings import TopicSettings

CHROMIUM_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--renderer-process-limit=1",  # none in reserve; each context has its own all the same
    # A whole Chromium has two pages behind each window's address bar, as costly as one of ours.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
)
PATIENCE_MS: Final = 15_000
"""The longest that a page may take to show something, on a busy machine."""


def chromium() -> str | None:
    """Give the one that $CHROMIUM names, or Debian's: if it is there, the one without windows."""
    named = os.environ.get("CHROMIUM")
    return named or shutil.which("chromium-headless-shell") or shutil.which("chromium")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where Chromium is."""
    found = chromium()
    if not found:
        pytest.fail("the browser tests need Chromium: `apt-get install chromium-headless-shell`")
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium_path: str) -> AsyncIterator[Browser]:
    """One browser for the session."""
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=chromium_path, args=list(CHROMIUM_FLAGS)
        )
        expect.set_options(timeout=PATIENCE_MS)
        yield launched
        await launched.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def site_settings(kafka_address: str) -> TopicSettings:
    """Topics of the browser tests alone."""
    name = uuid.uuid4().hex[:12]
    settings = TopicSettings(
        kafka_broker_url=kafka_address,
        transactions_topic=f"{name}.transactions",
        legit_topic=f"{name}.legit",
        fraud_topic=f"{name}.fraud",
        dead_letter_topic=f"{name}.dead-letter",
    )
    await topics.ensure(settings)
    return settings


@pytest.fixture(scope="session")
def gateway(
    site_settings: TopicSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One gateway for the session."""
    part = Gateway(site_settings, tmp_path_factory.mktemp("gateway") / "log")
    part.start()
    yield part
    part.end()


@pytest.fixture(scope="module")
def detector(
    site_settings: TopicSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Part]:
    """One detector for a module, with the shipped rules."""
    part = Part("detector", site_settings, tmp_path_factory.mktemp("detector") / "log")
    part.start()
    yield part
    part.end()


@pytest.fixture(scope="session")
def verdicts(site_settings: TopicSettings) -> Verdicts:
    """Put verdicts into the session's topics."""
    return Verdicts(site_settings)


@pytest_asyncio.fixture(loop_scope="session")
async def new_page(browser: Browser) -> AsyncIterator[Callable[..., Any]]:
    """Open pages of a gateway, each in a context of its own; none may complain."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    async def make(gateway: Gateway, **options: Any) -> Watched:
        context = await browser.new_context(
            **({"locale": "en-GB", "viewport": {"width": 1280, "height": 900}} | options)
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = Watched(await context.new_page(), gateway.url)
        watched.append(page)
        return page

    yield make
    for context in contexts:
        await context.close()
    assert [complaint for page in watched for complaint in page.complaints] == []


@pytest_asyncio.fixture(loop_scope="session")
async def site(new_page: Callable[..., Any], gateway: Gateway) -> Watched:
    """A page of the session's gateway, not yet gone anywhere."""
    opened: Watched = await new_page(gateway)
    return opened
