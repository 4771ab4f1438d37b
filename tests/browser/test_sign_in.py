"""Signing in: the form, the session, its end, and pages that lead back to the form."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.browser.stage import Gateway, Verdicts, Watched, verdict
from tests.credentials import KeyFile, bearer
from tests.trust import TRUST
from wire.settings import TopicSettings

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = "#list .list-body [role=row]"
ALL = ("stream:fraud", "stream:legit", "transactions:write")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    """The keys that the gateway takes."""
    return KeyFile(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def guarded(site_settings: TopicSettings, keys: KeyFile) -> Iterator[Gateway]:
    """A gateway that asks who comes; all these tests come from one address."""
    given = {"API_KEYS_FILE": str(keys.path), "API_KEYS_POLL_SECONDS": "0.05"}
    log = keys.path.with_name("log")
    part = Gateway(site_settings, log, LIMIT_FAILURE_BURST="1000", **given)
    part.start()
    yield part
    part.end(signal.SIGKILL)


async def known(gateway: Gateway, key: str) -> None:
    """Wait until the gateway has read a new key."""
    async with httpx.AsyncClient(base_url=gateway.url, verify=TRUST) as client, asyncio.timeout(20):
        while (await client.get("/status.json", headers=bearer(key))).status_code != 200:
            await asyncio.sleep(0.05)


async def sign_in(page: Page, key: str) -> None:
    """Fill in the form and send it."""
    await page.get_by_label("API key or token").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def test_signing_in_watching_and_signing_out(
    new_page: Callable[..., Any], guarded: Gateway, keys: KeyFile, verdicts: Verdicts
) -> None:
    """From the page that was asked for to the form, back to it, live, and out."""
    key = keys.add(*ALL, name="Anna")
    await known(guarded, key)
    watched: Watched = await new_page(guarded)
    page = watched.page
    await page.goto(f"{guarded.url}/stream/all?account=acct-signed")
    await expect(page).to_have_url(
        f"{guarded.url}/sign-in?next=%2Fstream%2Fall%3Faccount%3Dacct-signed"
    )
    await sign_in(page, "fs_wrong_key")
    await expect(page.get_by_role("alert")).to_have_text("There is no such API key.")
    await sign_in(page, key)
    await expect(page).to_have_url(f"{guarded.url}/stream/all?account=acct-signed")
    await page.wait_for_selector("#connection[data-state=live]")
    await verdicts.publish([verdict("5.00", source="acct-signed")])
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page.locator("#principal")).to_have_text("Anna")
    await expect(page.locator("#shell code")).to_contain_text('"Authorization: Bearer $KEY"')
    assert await page.evaluate("document.cookie") == ""
    (cookie,) = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")

    await page.goto(f"{guarded.url}/")
    await page.click("#post-send")
    await expect(page.locator("#outcome")).to_contain_text("Accepted by Kafka")

    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(f"{guarded.url}/sign-in")
    assert await page.context.cookies() == []
    await page.goto(f"{guarded.url}/")
    await expect(page).to_have_url(f"{guarded.url}/sign-in?next=%2F")


async def test_without_scripts_it_works_too(
    new_page: Callable[..., Any], guarded: Gateway, keys: KeyFile
) -> None:
    """The form is a form."""
    key = keys.add(*ALL)
    await known(guarded, key)
    watched: Watched = await new_page(guarded, java_script_enabled=False)
    await watched.page.goto(f"{guarded.url}/")
    await sign_in(watched.page, key)
    await expect(watched.page).to_have_url(f"{guarded.url}/")


@pytest.mark.parametrize("how", ["revoked", "expired"])
@pytest.mark.parametrize("path", ["/", "/stream/fraud"])
async def test_an_ended_credential_leads_to_the_form(
    new_page: Callable[..., Any], guarded: Gateway, keys: KeyFile, path: str, how: str
) -> None:
    """An open page notices that its stream ended for that, and comes back where it was."""
    key, other = keys.add(*ALL), keys.add(*ALL)
    await known(guarded, other)
    watched: Watched = await new_page(guarded)
    page = watched.page
    await page.goto(guarded.url + path)
    await sign_in(page, key)
    await page.wait_for_selector("#connection[data-state=live]")
    if how == "revoked":
        keys.revoke(key)
    else:
        keys.change(key, expires_at=datetime.now(UTC) + timedelta(seconds=1))
    await expect(page.get_by_label("API key or token")).to_be_visible()
    await sign_in(page, other)
    await expect(page).to_have_url(guarded.url + path)
    await page.wait_for_selector("#connection[data-state=live]")


async def test_a_link_from_elsewhere_finds_the_session(
    new_page: Callable[..., Any], guarded: Gateway, keys: KeyFile
) -> None:
    """The browser withholds the cookie from such a navigation: the form goes on by itself."""
    key = keys.add(*ALL)
    await known(guarded, key)
    watched: Watched = await new_page(guarded)
    page = watched.page
    await page.goto(f"{guarded.url}/sign-in")
    await sign_in(page, key)
    await page.wait_for_selector("#connection[data-state=live]")
    elsewhere = guarded.url.replace("127.0.0.1", "localhost")
    await page.goto(f"{elsewhere}/docs")
    await page.evaluate(f"location.href = '{guarded.url}/stream/fraud'")
    await expect(page).to_have_url(f"{guarded.url}/stream/fraud")
    await page.wait_for_selector("#connection[data-state=live]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_form_is_for_everyone(
    new_page: Callable[..., Any], guarded: Gateway, scheme: str
) -> None:
    """axe-core finds nothing, with an error on the page; nor does a phone scroll sideways."""
    watched: Watched = await new_page(
        guarded, color_scheme=scheme, bypass_csp=True, viewport={"width": 360, "height": 740}
    )
    page = watched.page
    await page.goto(f"{guarded.url}/sign-in")
    await sign_in(page, "x" * 400)
    await expect(page.get_by_role("alert")).not_to_be_empty()
    found = await Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
