"""`python -m tests.browser.screenshots`: take the README's pictures of a running `fraudstream up`.

The pictures in the repository were taken of `fraudstream up --tps 400 --rules
tests/browser/screenshots.toml`, on a machine with the fonts Inter and JetBrains Mono (the pages
name them first, and do without them).
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Browser, Page, async_playwright

from tests.browser.conftest import CHROMIUM_FLAGS, chromium

FOLDER: Final = Path("docs/images")
MOST_BYTES: Final = 300_000
DESKTOP: Final = {"width": 1280, "height": 860}
TALL: Final = {"width": 1280, "height": 1030}
PHONE: Final = {"width": 390, "height": 844}


async def main(url: str, watched_s: float) -> None:
    """Open the pages side by side, let them watch for a while, and take a picture of each."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=list(CHROMIUM_FLAGS)
        )
        pages = {
            "dashboard": await _open(browser, url, TALL, "light"),
            "dashboard-dark": await _open(browser, url, TALL, "dark"),
            "stream-fraud": await _open(browser, f"{url}/stream/fraud", DESKTOP, "dark"),
            "stream-all": await _open(browser, f"{url}/stream/all", DESKTOP, "light"),
            "phone": await _open(browser, f"{url}/stream/fraud", PHONE, "light"),
        }
        await asyncio.sleep(watched_s)
        for name in ("dashboard", "dashboard-dark"):
            await _post(pages[name])
        for name in ("stream-fraud", "stream-all"):
            await _open_details(pages[name])
        for name, page in pages.items():
            await page.screenshot(path=FOLDER / f"{name}.png")
        await browser.close()
    for file in FOLDER.glob("*.png"):
        size = file.stat().st_size
        print(f"{file}: {size:,} bytes{' (too large)' if size > MOST_BYTES else ''}")  # noqa: T201


async def _open(browser: Browser, url: str, size: Any, scheme: Any) -> Page:
    context = await browser.new_context(
        viewport=size, color_scheme=scheme, locale="en-GB", timezone_id="Europe/Vienna"
    )
    page = await context.new_page()
    await page.goto(url)
    return page


async def _post(page: Page) -> None:
    await page.click("#fill-fraud")
    await page.click("#post-send")
    await page.wait_for_selector("#outcome .decision")
    await page.evaluate("document.activeElement.blur()")


async def _open_details(page: Page) -> None:
    """Pause, and open the row with the most to show: several reasons, else a fraud, else any."""
    await page.click("#pause")
    rows = page.locator("#list .list-body [role=row]")
    frauds = rows.filter(has=page.locator("[data-decision=fraud]"))
    for wanted in (frauds.filter(has_text="+"), frauds, rows):
        if await wanted.count():
            await wanted.first.click()
            break
    await page.mouse.move(0, 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--watch", type=float, default=120, help="seconds before the pictures")
    given = parser.parse_args()
    asyncio.run(main(given.url.rstrip("/"), given.watch))
