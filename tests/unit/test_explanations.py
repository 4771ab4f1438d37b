"""What a problem's `type` leads to, over HTTP: a page and the same as JSON, of every kind."""

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import explanations, pages, problems
from api.problems import KINDS, Kind, Problem

JSON = {"Accept": "application/json"}
PATHS = ("/problems", "/problems/not-json")
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.code for kind in KINDS])


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of these pages alone, and the files that they are made of."""
    app = FastAPI(docs_url=None)
    problems.install(app)
    app.include_router(explanations.routes())
    app.include_router(pages.routes())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as made:
        yield made


class Read(HTMLParser):
    """A page as it is read: its text, and where it leads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where it leads."""
        del tag
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        """Note what it says."""
        self.words += data.split()

    @property
    def text(self) -> str:
        """All of its text."""
        return " ".join(self.words)


def facts(kind: Kind) -> dict[str, Any]:
    """Give what is told of a kind."""
    names = ("type", "code", "status", "title", "retriable", "meaning", "advice")
    return {name: getattr(kind, name) for name in names}


@every_kind
async def test_a_type_leads_to_what_it_means(client: httpx.AsyncClient, kind: Kind) -> None:
    """By a page, unless JSON is preferred; both say the same."""
    address = Problem(kind, "").document()["type"]
    page, data = await client.get(address), await client.get(address, headers=JSON)
    text = Read(page.text).text.replace(" .", ".").replace(" ,", ",")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert data.headers["content-type"] == "application/json"
    assert data.json() == facts(kind)
    for said in (kind.code, str(kind.status), kind.title):
        assert said in text
    for said in (kind.meaning, kind.advice):
        assert re.sub(r"\W", "", said) in re.sub(r"\W", "", text)
    assert text.count(f"help? {'yes' if kind.retriable else 'no'} ") == 1


async def test_all_kinds_are_listed(client: httpx.AsyncClient) -> None:
    """By status; the page links each."""
    page = Read((await client.get("/problems")).text)
    listed = (await client.get("/problems", headers=JSON)).json()["problems"]
    linked = [link.removeprefix("./") for link in page.links if link.startswith("problems/")]
    assert listed == sorted(map(facts, KINDS), key=lambda each: each["status"])
    assert linked == [f"problems/{each['code']}" for each in listed]
    assert all(kind.title in page.text for kind in KINDS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("below", ["", "/payments"])
async def test_links_lead_on_below_a_path_of_a_proxys(
    client: httpx.AsyncClient, path: str, below: str
) -> None:
    """All are relative, and each file is there, to be kept for good."""
    at = httpx.URL(f"http://proxy{below}{path}")
    links = [link for link in Read((await client.get(path)).text).links if link != "#main"]
    led = {at.join(link).path.removeprefix(below) for link in links}
    files = {each for each in led if each.startswith("/static/")}
    assert not [link for link in links if link.startswith("/") or ":" in link]
    assert len(files) == 4
    assert {"/", "/docs", "/problems"} <= led - files
    for address in files:
        answer = await client.get(address)
        assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", PATHS)
async def test_policy_allows_nothing_inline_or_foreign(
    client: httpx.AsyncClient, path: str
) -> None:
    """As on the other pages."""
    answer = await client.get(path)
    assert answer.headers["content-security-policy"] == pages.CONTENT_SECURITY_POLICY
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|\$", answer.text) == []


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_unchanged_is_not_sent_again(client: httpx.AsyncClient, path: str) -> None:
    """The two forms are told apart, by caches too."""
    page, data = await client.get(path), await client.get(path, headers=JSON)
    tags = [answer.headers["etag"] for answer in (page, data)]
    assert tags[0] != tags[1]
    for answer in (page, data):
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert answer.headers["cache-control"] == "no-cache"
    again = [
        (await client.get(path, headers={"If-None-Match": tag, **accept})).status_code
        for tag in tags
        for accept in ({}, JSON)
    ]
    assert again == [304, 200, 200, 304]


@pytest.mark.parametrize("code", ["nothing", "NOT-JSON", "not-json%0A", "not-json%00", "%3Cb%3E"])
async def test_an_unknown_code_is_not_found(client: httpx.AsyncClient, code: str) -> None:
    """By a problem, whatever was preferred."""
    for accept in ({}, JSON, {"Accept": "text/html"}):
        answer = await client.get(f"/problems/{code}", headers=accept)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
        assert answer.headers["content-type"] == problems.MEDIA_TYPE
