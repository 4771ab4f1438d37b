"""The pages are for everyone: keyboards, screen readers, phones, light and dark."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from api.problems import KINDS
from tests.browser.stage import Gateway, Verdicts, Watched, verdict
from wire.messages import Reason

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATHS = ("/", "/stream/all", "/stream/fraud", "/stream/legit")


async def fill(page: Page, verdicts: Verdicts) -> None:
    """Have something on the page: verdicts of both kinds, a shadow reason, long strings."""
    long = verdict(
        "999999999999.99",
        source="s" * 64,
        target="t" * 64,
        reasons=(Reason("r" * 64, "1", "d" * 300), Reason("trial", "1", "x", shadow=True)),
        metadata={"k" * 64: "v" * 256},
    )
    await verdicts.publish([verdict("20.00"), verdict("950.00"), long])
    await expect(page.locator("#received")).not_to_have_text("0")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/stream/all"])
async def test_no_accessibility_violations(
    new_page: Callable[..., Any], gateway: Gateway, verdicts: Verdicts, path: str, scheme: str
) -> None:
    """axe-core finds nothing in either theme, with data, details and errors on the page."""
    watched: Watched = await new_page(gateway, color_scheme=scheme, bypass_csp=True)
    page = await watched.open(path)
    await fill(page, verdicts)
    if path == "/":
        await expect(page.locator("#latest [role=listitem]")).not_to_have_count(0)
        await page.fill("#post-amount", "x")
        await page.click("#post-send")
        await expect(page.locator("#post-amount-error")).not_to_be_empty()
    else:
        await page.locator("#list .list-body [role=row]").last.click()
        await expect(page.locator("#details")).to_be_visible()
    found = await Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    assert found.response["passes"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_problems_are_explained_to_everyone(
    new_page: Callable[..., Any], gateway: Gateway, scheme: str
) -> None:
    """From the list to each by its link, without scripts' help, on a phone, in the theme chosen."""
    phone = {"viewport": {"width": 360, "height": 740}, "bypass_csp": True}
    watched: Watched = await new_page(gateway, color_scheme="light", **phone)
    page = watched.page
    await page.add_init_script(f"localStorage.setItem('theme', '{scheme}')")
    await page.goto(f"{gateway.url}/problems")
    links = page.locator("main a")
    assert await links.count() == len(KINDS)
    longest = max(KINDS, key=lambda kind: len(kind.meaning + kind.advice))
    for code in (None, longest.code):
        if code is not None:
            await page.get_by_role("link", name=code, exact=True).click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(longest.title)
        found = await Axe().run(page)
        assert found.response["violations"] == [], found.generate_report()
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        assert await page.evaluate("getComputedStyle(document.body).colorScheme") == scheme
    await page.get_by_role("link", name="Problems").click()
    await expect(page).to_have_url(f"{gateway.url}/problems")
    assert watched.failed_loads == []


@pytest.mark.parametrize("path", PATHS)
async def test_phone_width_needs_no_sideways_scroll(
    new_page: Callable[..., Any], gateway: Gateway, verdicts: Verdicts, path: str
) -> None:
    """At 360 pixels, with the longest strings there can be, nothing is wider than the screen."""
    watched: Watched = await new_page(gateway, viewport={"width": 360, "height": 740})
    page = await watched.open(path)
    await fill(page, verdicts)
    if path != "/":
        await page.locator("#list .list-body [role=row]").first.click()
        await expect(page.locator("#details")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") == 360


async def test_theme_follows_the_system_or_the_choice(
    new_page: Callable[..., Any], gateway: Gateway
) -> None:
    """Dark where the system is dark; the button overrules it, and the choice is kept."""
    background = "getComputedStyle(document.body).backgroundColor"
    watched: Watched = await new_page(gateway, color_scheme="dark")
    page = await watched.open("/")
    dark = await page.evaluate(background)
    assert dark == "rgb(11, 14, 19)"
    await page.click("#theme")
    await expect(page.locator("#theme")).to_have_text("Theme: light")
    light = await page.evaluate(background)
    assert light == "rgb(245, 246, 248)"
    await watched.open("/stream/fraud")
    assert await page.evaluate(background) == light
    await page.click("#theme")
    assert await page.evaluate(background) == dark


@pytest.mark.parametrize("locale", ["en-US", "de-DE", "fr-FR", "ja-JP"])
async def test_labels_of_axes_fit(
    new_page: Callable[..., Any], gateway: Gateway, locale: str
) -> None:
    """Beside the charts there is room for any amount, in languages that shorten little, too."""
    watched: Watched = await new_page(gateway, locale=locale)
    page = await watched.open("/stream/all")
    over = await page.evaluate(
        """async () => {
            const script = document.querySelector("script[src*=theme]").src;
            const { brief } = await import(new URL("format.js", script));
            const { MARGIN, sheet } = await import(new URL("canvas.js", script));
            const { pen } = sheet(document.getElementById("amounts"));
            const labels = Array.from({ length: 12 }, (_, power) => brief(10 ** (power - 2)));
            return labels.filter((each) => pen.measureText(each).width > MARGIN.left - 8);
        }"""
    )
    assert over == []


async def test_states_are_seen_in_forced_colours(
    new_page: Callable[..., Any], gateway: Gateway, verdicts: Verdicts
) -> None:
    """In a high-contrast theme, which takes backgrounds away, what is chosen still stands out."""
    watched: Watched = await new_page(gateway, forced_colors="active")
    page = await watched.open("/stream/all")
    await verdicts.publish([verdict(), verdict()])
    rows = page.locator("#list .list-body [role=row]")
    await expect(rows).to_have_count(2)
    await rows.first.click()

    async def style(selector: str) -> list[str]:
        found: list[str] = await page.locator(selector).first.evaluate(
            """element => {
                const style = getComputedStyle(element);
                return [style.backgroundColor, style.outlineStyle, style.textDecorationLine];
            }"""
        )
        return found

    for chosen, other in (
        ("#follow", "#pause"),
        (".nav [aria-current]", ".nav :not([aria-current])"),
        ("#list [aria-selected=true]", "#list [aria-selected=false]"),
    ):
        assert await style(chosen) != await style(other)


async def test_theme_is_chosen_where_nothing_is_kept(
    new_page: Callable[..., Any], gateway: Gateway
) -> None:
    """A browser that keeps nothing for pages shows the choice on this page, without an error."""
    watched: Watched = await new_page(gateway)
    await watched.page.add_init_script(
        """Object.defineProperty(window, "localStorage", {
            get() { throw new DOMException("denied", "SecurityError"); },
        });"""
    )
    page = await watched.open("/stream/all")
    await page.click("#theme")
    await expect(page.locator("#theme")).to_have_text("Theme: light")


async def test_everything_is_reached_by_tab(site: Watched) -> None:
    """The skip link comes first and leads to the content; then all controls, in reading order."""
    page = await site.open("/stream/fraud")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await expect(page.locator(".skip")).to_be_in_viewport()
    reached = []
    for _ in range(30):
        await page.keyboard.press("Tab")
        focused = "document.activeElement.id || document.activeElement.textContent"
        reached.append(await page.evaluate(focused))
        if reached[-1] == "list":
            break
    wanted = ["Dashboard", "theme", "follow", "pause", "filter-account", "clear", "chart", "list"]
    assert [name for name in reached if name in wanted] == wanted
    visible = "getComputedStyle(document.activeElement).outlineStyle"
    assert await page.evaluate(visible) == "solid"


async def test_state_is_announced(site: Watched, verdicts: Verdicts) -> None:
    """A polite live region says what changed: live, paused, resumed; figures stay silent."""
    page = await site.open("/stream/all")
    announcer = page.locator("#announcer[aria-live=polite]")
    await expect(announcer).to_have_text("Live")
    await page.click("#pause")
    await expect(announcer).to_have_text("Paused")
    await verdicts.publish([verdict()])
    await expect(page.locator("#received")).to_have_text("1")
    assert await page.locator("[aria-live], output, [role=status], [role=alert]").count() == 1
