"""The live page of a stream, driven as a reader would."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.browser.stage import Gateway, Verdicts, Watched, verdict
from wire.messages import Reason, encode

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = "#list .list-body [role=row]"
KEPT = 5000
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e&amp;"


async def amounts(page: Page) -> list[str]:
    """Give the amounts in the list, top first."""
    cells = await page.eval_on_selector_all(
        ROWS, "rows => rows.map(row => [row.ariaRowIndex, row.querySelector('.amount').innerText])"
    )
    return [text for _, text in sorted(cells, key=lambda cell: int(cell[0]))]


async def test_rows_appear_newest_first(site: Watched, verdicts: Verdicts) -> None:
    """Each verdict becomes a row, the newest on top, with all that matters in it."""
    page = await site.open("/stream/fraud")
    await verdicts.publish([verdict("901.10")])
    await expect(page.locator(ROWS)).to_have_count(1)
    await verdicts.publish([verdict("1234567.8901", source="acct-zoë", currency="JPY")])
    await expect(page.locator(ROWS)).to_have_count(2)

    assert await amounts(page) == ["1,234,567.8901", "901.10"]
    newest = page.locator(f"{ROWS}[aria-rowindex='2']")
    await expect(newest).to_contain_text("JPY")
    await expect(newest).to_contain_text("acct-zoë")
    await expect(newest).to_contain_text("amount 1234567.8901 > 900")
    await expect(page.locator("#received")).to_have_text("2")


async def test_rows_are_read_in_the_order_seen(site: Watched, verdicts: Verdicts) -> None:
    """Who hears the list hears the newest first, as well after scrolling; amounts have a unit."""
    indices = "rows => rows.map(row => Number(row.ariaRowIndex))"
    page = await site.open("/stream/fraud?account=acct-order")
    for n in range(1, 4):
        await verdicts.publish([verdict(f"90{n}.00", source="acct-order")])
        await expect(page.locator(ROWS)).to_have_count(n)
    assert await page.eval_on_selector_all(ROWS, indices) == [2, 3, 4]
    await expect(page.locator(f"{ROWS} .money").first).to_have_text("903.00 EUR")

    await verdicts.publish([verdict("950.00", source="acct-order") for _ in range(97)])
    await expect(page.locator("#received")).to_have_text("100")
    for to in (1800, 900):
        await page.locator("#list").evaluate("(list, to) => list.scrollTo(0, to)", to)
        await expect(page.locator(f"{ROWS}[aria-rowindex='{to // 36 + 4}']")).to_have_count(1)
        shown = await page.eval_on_selector_all(ROWS, indices)
        assert shown == sorted(shown)


async def test_each_page_shows_its_stream(site: Watched, verdicts: Verdicts) -> None:
    """The page of legit verdicts shows no fraud, and says what it shows."""
    page = await site.open("/stream/legit")
    await verdicts.publish([verdict("950.00"), verdict("20.00")])
    await expect(page.locator(ROWS)).to_have_count(1)
    assert await amounts(page) == ["20.00"]
    await expect(page).to_have_title("Legit verdicts · fraudstream")
    await expect(page.locator("nav [aria-current=page]")).to_have_text("Legit")


async def test_filter_is_the_servers(site: Watched, verdicts: Verdicts) -> None:
    """A filter narrows the stream itself, and stands in the page's address and the curl line."""
    page = await site.open("/stream/all")
    await page.fill("#filter-account", "acct-carol")
    await page.fill("#filter-min_amount", "50.00")
    await page.fill("#filter-currency", "usd")
    async with page.expect_request("**/stream/all?*") as request:
        await page.click("#filters [type=submit]")
    wanted = {"account": ["acct-carol"], "min_amount": ["50.00"], "currency": ["USD"]}
    assert parse_qs(urlsplit((await request.value).url).query) == wanted
    assert parse_qs(urlsplit(page.url).query) == wanted
    await page.wait_for_selector("#connection[data-state=live]")

    await verdicts.publish(
        [
            verdict("60.00", source="acct-carol", currency="USD"),
            verdict("61.00", source="acct-carol"),
            verdict("49.99", source="acct-carol", currency="USD"),
            verdict("62.00", currency="USD"),
            verdict("63.00", target="acct-carol", currency="USD"),
        ]
    )
    await expect(page.locator(ROWS)).to_have_count(2)
    assert sorted(await amounts(page)) == ["60.00", "63.00"]
    await expect(page.locator("#shell code")).to_contain_text("account=acct-carol")


async def test_raw_stream_is_one_click_away(site: Watched, verdicts: Verdicts) -> None:
    """The link opens the stream itself in the browser, with the page's filter, as it comes."""
    page = await site.open("/stream/all?account=acct-raw")
    async with page.context.expect_page() as opened:
        await page.click("#raw-link")
    raw = await opened.value
    published = verdict(source="acct-raw")
    body = raw.locator("body")
    # It is open then; Chromium may show what follows at once only with what comes next.
    await expect(body).to_contain_text("retry:")
    await verdicts.publish([verdict(), published])
    await expect(body).to_contain_text("data:")
    text = await body.inner_text()
    assert "\nid: " in text
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data:")]
    assert data == [encode(published).decode()]


async def test_filter_comes_with_the_address(site: Watched, verdicts: Verdicts) -> None:
    """An address with a filter can be shared: the form shows it, Clear and Back change it."""
    page = await site.open("/stream/all?rule=velocity")
    await expect(page.locator("#filter-rule")).to_have_value("velocity")
    velocity = Reason("velocity", "1", "11 in 60 s > 10")
    await verdicts.publish([verdict("5.00", decision="fraud", reasons=(velocity,)), verdict()])
    await expect(page.locator(ROWS)).to_have_count(1)

    await page.click("#clear")
    await expect(page).to_have_url(re.compile(r"/stream/all$"))
    await page.wait_for_selector("#connection[data-state=live]")
    await verdicts.publish([verdict("6.00")])
    await expect(page.locator(ROWS)).to_have_count(1)
    assert await amounts(page) == ["6.00"]

    await page.go_back()
    await expect(page.locator("#filter-rule")).to_have_value("velocity")


async def test_refused_filter_is_shown_at_its_field(site: Watched, verdicts: Verdicts) -> None:
    """What the gateway says of a malformed filter stands at the field, and is gone once mended."""
    page = await site.open("/stream/all")
    await page.fill("#filter-min_amount", "much")
    await page.press("#filter-min_amount", "Enter")
    await expect(page.locator("#filter-min_amount-error")).to_contain_text("must be a decimal")
    await expect(page.locator("#filter-min_amount")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#connection")).to_have_attribute("data-state", "refused")

    await page.fill("#filter-min_amount", "70")
    await page.press("#filter-min_amount", "Enter")
    await page.wait_for_selector("#connection[data-state=live]")
    await expect(page.locator("#banner")).to_be_hidden()
    await expect(page.locator("#filter-min_amount-error")).to_be_hidden()
    await verdicts.publish([verdict("69.99"), verdict("70.00")])
    await expect(page.locator(ROWS)).to_have_count(1)


async def test_times_of_another_day_tell_the_day(
    new_page: Callable[..., Any], gateway: Gateway, verdicts: Verdicts
) -> None:
    """What was decided today stands there to the millisecond, the rest with its day."""
    watched: Watched = await new_page(gateway, timezone_id="Asia/Kolkata")
    page = await watched.open("/stream/all?account=acct-days")
    await verdicts.publish([verdict("1.00", source="acct-days")])
    await expect(page.locator(ROWS)).to_have_count(1)
    before = datetime(2026, 3, 7, 20, 15, tzinfo=UTC)
    await verdicts.publish([verdict("2.00", source="acct-days", decided_at=before)])
    await expect(page.locator(f"{ROWS} time")).to_have_text(
        ["8 Mar, 01:45", re.compile(r"^\d\d:\d\d:\d\d\.\d{3}$")]
    )


async def test_history_is_not_called_live(site: Watched, verdicts: Verdicts) -> None:
    """While what comes was decided long ago the page says so; after it, that it is live."""
    page = await site.open("/stream/all?account=acct-history")
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    await verdicts.publish([verdict("1.00", source="acct-history", decided_at=an_hour_ago)])
    await expect(page.locator("#connection")).to_have_text("Catching up")
    await expect(page.locator("#connection")).to_have_text("Live")


async def test_new_filter_follows_and_keeps_the_focus(site: Watched, verdicts: Verdicts) -> None:
    """After a held list and open details it begins anew: following, said so, the form in hand."""
    page = await site.open("/stream/all?account=acct-again")
    await verdicts.publish([verdict("1.00", source="acct-again")])
    await page.locator(ROWS).click()
    await page.click("#follow")
    await expect(page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    await page.fill("#filter-currency", "EUR")
    await page.press("#filter-currency", "Enter")
    await expect(page.locator("#details")).to_be_hidden()
    await expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("#filter-currency")).to_be_focused()


async def test_a_minute_ago_is_by_the_gateways_clock(site: Watched, verdicts: Verdicts) -> None:
    """A browser whose clock is an hour ahead asks for the last minute all the same."""
    await site.page.add_init_script("{ const now = Date.now; Date.now = () => now() + 3_600_000; }")
    await verdicts.publish([verdict("1.00", source="acct-ahead")])
    async with site.page.expect_response("**/status.json"):
        page = await site.open("/stream/all?account=acct-ahead")
    await page.select_option("#filter-since", "-60")
    await expect(page.locator(ROWS)).to_have_count(1)


async def test_what_is_no_verdict_is_counted(site: Watched, verdicts: Verdicts) -> None:
    """Records of another program on the topic are told as unreadable, and what follows is shown."""
    page = await site.open("/stream/fraud")
    for value in (b"null", b"not JSON", b'{"decision": "fraud"}'):
        await verdicts.put("fraud", value)
    await verdicts.publish([verdict("901.00", source="acct-after")])
    await expect(page.locator("#received")).to_have_text("1 (3 unreadable)")
    await expect(page.locator(ROWS)).to_contain_text("acct-after")


async def test_history_can_be_asked_for(site: Watched, verdicts: Verdicts) -> None:
    """Starting at the beginning shows what was decided before the page was opened."""
    account = "acct-historian"
    await verdicts.publish([verdict(f"{n}.00", source=account) for n in range(10, 15)])
    page = await site.open(f"/stream/all?account={account}")
    await page.select_option("#filter-since", "earliest")
    await expect(page.locator(ROWS)).to_have_count(5)
    assert await amounts(page) == ["14.00", "13.00", "12.00", "11.00", "10.00"]


async def test_pause_counts_what_arrives(site: Watched, verdicts: Verdicts) -> None:
    """While paused the list stands still and the arrivals are counted; then they are all there."""
    page = await site.open("/stream/all?account=acct-pause")
    await verdicts.publish([verdict("1.00", source="acct-pause")])
    await expect(page.locator(ROWS)).to_have_count(1)
    await page.click("#pause")
    await verdicts.publish([verdict(f"{n}.00", source="acct-pause") for n in range(2, 9)])
    await expect(page.locator("#list-note")).to_have_text("Paused. 7 arrived meanwhile.")
    assert await amounts(page) == ["1.00"]

    await page.click("#pause")
    await expect(page.locator(ROWS)).to_have_count(8)
    assert await amounts(page) == [f"{n}.00" for n in range(8, 0, -1)]


async def test_reading_holds_the_list(site: Watched, verdicts: Verdicts) -> None:
    """Scrolling away stops following: nothing moves, newer ones are counted, one click returns."""
    page = await site.open("/stream/all?account=acct-read")
    await verdicts.publish([verdict(f"{n}.00", source="acct-read") for n in range(1, 101)])
    await expect(page.locator("#received")).to_have_text("100")
    await page.locator("#list").evaluate("list => list.scrollTo(0, 900)")
    await expect(page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    held = await amounts(page)

    await verdicts.publish([verdict(f"{n}.00", source="acct-read") for n in range(101, 104)])
    await expect(page.locator("#newer")).to_have_text("↑ 3 newer")
    assert await amounts(page) == held

    await page.click("#newer")
    await expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(f"{ROWS}[aria-rowindex='2']")).to_contain_text("103.00")


async def test_list_holds_still_under_the_mouse(site: Watched, verdicts: Verdicts) -> None:
    """A row under the mouse stays there, so that the one clicked is the one meant."""
    page = await site.open("/stream/all?account=acct-mouse")
    await verdicts.publish([verdict(f"{n}.00", source="acct-mouse") for n in range(1, 4)])
    await expect(page.locator(ROWS)).to_have_count(3)
    await page.hover(f"{ROWS}[aria-rowindex='4']")
    await verdicts.publish([verdict(f"{n}.00", source="acct-mouse") for n in range(4, 6)])
    await expect(page.locator("#list-note")).to_have_text("Held while you point at it: 2 newer.")
    await page.mouse.down()
    await page.mouse.up()
    await expect(page.locator("#details-title")).to_contain_text("1.00")
    await page.mouse.move(0, 0)
    assert await amounts(page) == ["5.00", "4.00", "3.00", "2.00", "1.00"]


async def test_details_by_keyboard(site: Watched, verdicts: Verdicts) -> None:
    """Arrow keys and Enter open a row's details, Escape goes back to where one was."""
    page = await site.open("/stream/all?account=acct-keys")
    shadow = Reason("round-amounts", "2", "3 in 5 min", shadow=True)
    limit = Reason("amount-limit", "7", "amount 950.00 > 900")
    frauds = [
        verdict("950.00", source="acct-keys", reasons=(limit, shadow), metadata={"shop": "12"}),
        verdict("960.00", source="acct-keys"),  # one topic, one partition: an order to rely on
    ]
    await verdicts.publish(frauds)
    await expect(page.locator(ROWS)).to_have_count(2)
    await page.focus("#list")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")

    details = page.locator("#details")
    await expect(details).to_be_visible()
    await expect(page.locator("#details-title")).to_be_focused()
    for text in ("950.00", "acct-keys", "amount-limit", "version 7", "on trial", "shop", "12"):
        await expect(details).to_contain_text(text)
    await page.keyboard.press("Escape")
    await expect(details).to_be_hidden()
    await expect(page.locator("#list")).to_be_focused()
    await expect(page.locator(f"{ROWS}[aria-selected=true]")).to_contain_text("950.00")


@pytest.mark.parametrize("path", ["/stream/all?account=acct-evil", "/"])
async def test_hostile_strings_stay_text(site: Watched, verdicts: Verdicts, path: str) -> None:
    """Markup in a verdict is shown letter by letter, on both pages, and never becomes elements."""
    dialogs: list[str] = []
    site.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page = await site.open(path)
    evil = verdict(
        source="acct-evil",
        target=HOSTILE,
        reasons=(Reason(HOSTILE, HOSTILE, HOSTILE),),
        metadata={HOSTILE: HOSTILE, "__proto__": "polluted", "decision": "legit"},
    )
    await verdicts.publish([evil])
    await expect(page.locator("#received")).not_to_have_text("0")
    if path != "/":
        await page.locator(ROWS).click()
        pairs = page.locator("#details dl").last
        await expect(pairs.locator("dt").first).to_have_text(HOSTILE)
        await expect(page.locator("#details pre")).to_contain_text("onerror=alert(1)")
    await expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert await page.locator("main img, main script").count() == 0
    assert await page.evaluate("({}).polluted") is None
    assert dialogs == []


async def test_thousands_a_second(site: Watched, verdicts: Verdicts) -> None:
    """At a rate no one can read, all are counted, and the page stays small and usable."""
    total = 2 * KEPT
    page = await site.open("/stream/all?account=acct-flood")
    await verdicts.publish(
        [verdict(f"{n % 1000 + 1}.00", source="acct-flood") for n in range(total)]
    )
    await expect(page.locator("#received")).to_have_attribute("data-count", str(total))
    await expect(page.locator("#list")).to_have_attribute("aria-rowcount", str(KEPT + 1))
    await expect(page.locator("#list-note")).to_contain_text("latest 5,000 can be scrolled to")
    assert await page.locator(ROWS).count() < 60

    await page.focus("#list")
    await page.keyboard.press("End")
    await expect(page.locator(f"{ROWS}[aria-selected=true]")).to_have_attribute(
        "aria-rowindex", str(KEPT + 1)
    )
    assert await page.locator(ROWS).count() < 60


async def test_small_amounts_and_long_times_are_told_apart(site: Watched) -> None:
    """No axis calls a cent nothing, and an absence of days is told in days."""
    page = await site.open("/")
    written = await page.evaluate(
        """async () => {
            const script = document.querySelector("script[src*=theme]").src;
            const { brief, duration } = await import(new URL("format.js", script));
            const times = [59_000, 3_599_000, 9_000_000, 200_000_000];
            return [[0.01, 0.1, 2.5, 12500].map(brief), times.map(duration)];
        }"""
    )
    assert written == [
        ["0.01", "0.1", "2.5", "12.5k"],
        ["59.0 s", "59 min 59 s", "2 h 30 min", "2 d 7 h"],
    ]


WIRE = (
    "\ufeffretry: 300\n\n",
    ": comment\n\nid: 1\n\n",  # a position alone dispatches nothing
    "data: one\n\n",
    "id\ndata\n\n",  # an empty id, an empty line of data
    "id: 2\r\ndata: a\r\ndata:  b\r\n\r\n",
    "id: 3\rdata: c\r\r",
    "id: 4\0\ndata: nul\n\n",
    "event: gap\nid: 5\ndata: {}\n\n",
    "event: gap\n\ndata: plain again\n\n",
    "unknown: x\ndata:é\u2028💥\n\n",
    "id: 6\ndata: cut off",
)


async def test_events_are_parsed_as_chromium_does(site: Watched) -> None:
    """However a stream is cut, the pages' parser finds in it what Chromium's EventSource finds."""
    page = await site.open("/")
    wire = "".join(WIRE)
    await page.route(
        "**/wire",
        lambda route: route.fulfill(content_type="text/event-stream; charset=utf-8", body=wire),
    )
    expected = await page.evaluate(
        """() => new Promise((resolve) => {
            const found = [];
            const source = new EventSource("/wire");
            const note = ({ type, data, lastEventId }) => found.push([type, data, lastEventId]);
            source.onmessage = note;
            source.addEventListener("gap", note);
            source.onerror = () => { source.close(); resolve(found); };
        })"""
    )
    found = await page.evaluate(
        """async ([wire, sizes]) => {
            const script = document.querySelector("script[src*=theme]").src;
            const { Events } = await import(new URL("events.js", script));
            return sizes.map((size) => {
                const found = [];
                const events = new Events((...event) => found.push([...event, events.lastId]));
                for (let at = 0; at < wire.length; at += size)
                    events.feed(wire.slice(at, at + size));
                return found;
            });
        }""",
        [wire.removeprefix("\ufeff"), [1, 2, 3, 7, len(wire)]],  # a TextDecoder takes that away
    )
    assert len(expected) == 8
    assert found == [expected] * 5


async def test_chromiums_own_event_source_reads_the_stream(
    site: Watched, verdicts: Verdicts
) -> None:
    """A plain EventSource gets each verdict once, byte for byte, in its topic's order."""
    page = await site.open("/")
    published = [
        verdict(f"{n}.0{n % 10}", source="acct-oracle", target="Zoë → 李\u2028")
        for n in range(600, 1100)
    ]
    await verdicts.publish(published)
    events = await page.evaluate(
        """expected => new Promise((resolve) => {
            const events = [];
            const source = new EventSource("/stream/all?account=acct-oracle&since=earliest");
            source.onmessage = ({ data, lastEventId }) => {
                events.push([lastEventId, data]);
                if (events.length === expected) { source.close(); resolve(events); }
            };
        })""",
        len(published),
    )
    assert len({position for position, _ in events}) == len(published)
    for decision in ("fraud", "legit"):
        of_topic = [data for _, data in events if f'"decision":"{decision}"' in data]
        assert of_topic == [encode(v).decode() for v in published if v.decision == decision]
