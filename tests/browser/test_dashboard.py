"""The dashboard, driven as an operator would."""

import re

import pytest
from playwright.async_api import expect

from tests.browser.stage import Gateway, Part, Verdicts, Watched, verdict
from wire.messages import Reason

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_figures_come_from_the_stream(site: Watched, verdicts: Verdicts) -> None:
    """Count, fraud share, rules, latency and lag show what went through the topics."""
    page = await site.open("/")
    structuring = Reason("structuring", "1", "4 amounts of 800 to 900 within 10 min")
    some = [verdict("20.00") for _ in range(90)]
    some += [verdict("950.00") for _ in range(7)]
    some += [verdict("850.00", decision="fraud", reasons=(structuring,)) for _ in range(3)]
    await verdicts.publish(some)
    await expect(page.locator("#received")).to_have_text("100")
    await expect(page.locator("#share")).to_have_text("10.0")
    await expect(page.locator("#share-note")).to_have_text("of 100 in the last minute")
    await expect(page.locator("#rules li")).to_have_text([r"amount-limit7", r"structuring3"])
    await expect(page.locator("#latency")).to_have_text(re.compile(r"^[\d,.]+$"))
    await expect(page.locator("#lag")).to_have_text("0")
    await expect(page.locator("#about")).to_contain_text("fraudstream 0.")


async def test_latency_minds_a_wrong_clock(site: Watched, verdicts: Verdicts) -> None:
    """A browser whose clock is an hour ahead still shows the latency, and says what it did."""
    await site.page.add_init_script("{ const now = Date.now; Date.now = () => now() + 3_600_000; }")
    page = await site.open("/")
    note = page.locator("#latency-note")
    await expect(page.locator("#about")).to_contain_text("started")  # the gateway's time is known
    await verdicts.publish([verdict()])
    await expect(note).to_contain_text("clock corrected")
    await expect(note).to_have_attribute("title", re.compile("ahead of the gateway's; corrected"))
    shown = await page.locator("#latency").inner_text()
    assert float(shown.replace(",", "")) < 60_000


async def test_latest_frauds_with_reasons(site: Watched, verdicts: Verdicts) -> None:
    """The latest frauds are listed, newest first, and no legit verdict among them."""
    page = await site.open("/")
    await verdicts.publish([verdict("901.00"), verdict("899.00")])
    await expect(page.locator("#latest [role=listitem]")).to_have_count(1)
    await verdicts.publish([verdict("902.00")])
    rows = page.locator("#latest [role=listitem]")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("902.00")
    await expect(rows.first).to_contain_text("amount 902.00 > 900")


async def test_posted_transaction_shows_its_verdict(site: Watched, detector: Part) -> None:
    """The form posts, says where Kafka has it, and shows the detector's verdict as it comes."""
    assert detector.process is not None
    page = await site.open("/")
    await page.click("#fill-fraud")
    await page.fill("#post-note", "a test <b>note</b>")
    await page.keyboard.press("Enter")
    outcome = page.locator("#outcome")
    await expect(outcome).to_contain_text(re.compile(r"partition \d, offset \d+"))
    await expect(outcome.locator(".decision")).to_have_text("Fraud")
    await expect(outcome).to_contain_text("amount 900.01 > 900")

    await page.click("#fill-legit")
    await page.click("#post-send")
    await expect(outcome.locator(".decision")).to_have_text("Legit")


async def test_verdict_is_looked_up_where_the_stream_is_away(site: Watched, detector: Part) -> None:
    """Without the stream a posted transaction's verdict is shown all the same."""
    assert detector.process is not None
    await site.page.route("**/stream/all", lambda route: route.abort())
    await site.page.goto(f"{site.url}/")
    await site.page.click("#fill-fraud")
    await site.page.click("#post-send")
    outcome = site.page.locator("#outcome")
    await expect(outcome.locator(".decision")).to_have_text("Fraud")
    await expect(outcome).to_contain_text("amount 900.01 > 900")


async def test_rules_hold_still_while_they_count(site: Watched, verdicts: Verdicts) -> None:
    """A rule's link keeps the focus, and is the same to the mouse, while its figure goes up."""
    page = await site.open("/")
    structuring = Reason("structuring", "1", "4 amounts of 800 to 900 within 10 min")
    first = [verdict("850.00", decision="fraud", reasons=(structuring,)) for _ in range(2)]
    await verdicts.publish([*first, verdict()])
    await expect(page.locator("#rules li")).to_have_text(["structuring2", "amount-limit1"])
    link = page.locator("#rules a").first
    await link.focus()
    await verdicts.publish([verdict() for _ in range(4)])
    await expect(page.locator("#rules li")).to_have_text(["amount-limit5", "structuring2"])
    await expect(page.locator("#rules a", has_text="structuring")).to_be_focused()


async def test_field_errors_stand_at_their_fields(site: Watched, detector: Part) -> None:
    """What the gateway refuses is said at the field, which gets the focus; mending it clears it."""
    assert detector.process is not None
    page = await site.open("/")
    await page.fill("#post-amount", "-1")
    await page.fill("#post-currency", "euro")
    await page.click("#post-send")
    await expect(page.locator("#post-amount-error")).to_contain_text("must be greater than 0")
    await expect(page.locator("#post-currency-error")).not_to_be_empty()
    await expect(page.locator("#post-amount")).to_be_focused()
    await expect(page.locator("#post-amount")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#post-source")).not_to_have_attribute("aria-invalid", "true")
    assert len(site.failed_loads) == 1  # the 422

    await page.fill("#post-amount", "12.34")
    await page.fill("#post-currency", "EUR")
    await page.click("#post-send")
    await expect(page.locator("#outcome .decision")).to_have_text("Legit")
    await expect(page.locator("#post-amount-error")).to_be_hidden()
    await expect(page.locator("#post-amount")).not_to_have_attribute("aria-invalid", "true")


async def test_curl_lines_are_copied(new_page, gateway: Gateway) -> None:
    """A curl line names this gateway, and its button puts it on the clipboard."""
    watched = await new_page(gateway, permissions=["clipboard-read", "clipboard-write"])
    page = await watched.open("/")
    line = page.locator("#shell li").nth(1)
    await line.get_by_role("button").click()
    await expect(line.get_by_role("button")).to_have_text("Copied")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == f"curl -N {gateway.url}/stream/fraud"


NOTE_SAMPLING = """() => {
    const sampling = document.getElementById("latest-sampling");
    window.sampled = new Promise((resolve) => {
        new MutationObserver(() => sampling.textContent && resolve(sampling.textContent)).observe(
            sampling, { childList: true, characterData: true, subtree: true },
        );
    });
}"""


async def test_all_is_counted_at_thousands_a_second(site: Watched, verdicts: Verdicts) -> None:
    """The dashboard counts every verdict of a burst, shows a few, and says how few."""
    total = 10_000
    page = await site.open("/")
    await page.evaluate(NOTE_SAMPLING)  # it is there only for as long as they come so fast
    await verdicts.publish([verdict() for _ in range(total)])
    await expect(page.locator("#received")).to_have_attribute("data-count", str(total))
    assert re.fullmatch(r"Showing 1 of \d.*", await page.evaluate("window.sampled"))
    assert await page.locator("#latest [role=listitem]").count() == 8
