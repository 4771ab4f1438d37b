"""The pages over HTTP: safe headers, and caching that never shows an old file for a new one."""

import gzip
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from api import pages, problems


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the pages alone."""
    app = FastAPI(docs_url=None)
    problems.install(app)
    app.include_router(pages.routes())

    @app.get("/stream/fraud")
    async def fraud(request: Request) -> Response:
        return pages.stream_page(request, "fraud")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as made:
        yield made


def links(html: str) -> list[str]:
    """Give the addresses of the static files that a page loads."""
    return re.findall(r'(?:src|href)="(/static/[^"]+)"', html)


@pytest.mark.parametrize("path", ["/", "/stream/fraud"])
async def test_policy_allows_nothing_inline_or_foreign(
    client: httpx.AsyncClient, path: str
) -> None:
    """Scripts and styles come from the gateway's own files only, and no page may frame ours."""
    answer = await client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", answer.text) == []


@pytest.mark.parametrize("path", ["/", "/stream/fraud"])
async def test_all_files_of_a_page_are_there_and_kept_for_good(
    client: httpx.AsyncClient, path: str
) -> None:
    """Each file that a page names exists, and may be cached for ever under its digest."""
    named = links((await client.get(path)).text)
    assert len(named) > 20
    for address in named:
        answer = await client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]


async def test_no_template_variable_is_left(client: httpx.AsyncClient) -> None:
    """The templates are filled in."""
    assert "$" not in (await client.get("/")).text
    assert "$" not in (await client.get("/stream/fraud")).text


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_unchanged_page_is_not_sent_again(client: httpx.AsyncClient, coding: str) -> None:
    """A page must be asked for again, but with its ETag costs nothing."""
    headers = {"Accept-Encoding": coding}
    first = await client.get("/", headers=headers)
    assert first.headers["cache-control"] == "no-cache"
    headers["If-None-Match"] = f'"other", W/{first.headers["etag"]}'
    second = await client.get("/", headers=headers)
    assert (second.status_code, second.content) == (304, b"")


async def test_compressed_where_wanted(client: httpx.AsyncClient) -> None:
    """gzip is used where the client takes it; a cache can tell the two forms apart."""
    plain = await client.get("/", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    async with client.stream("GET", "/", headers={"Accept-Encoding": "gzip"}) as zipped:
        raw = b"".join([chunk async for chunk in zipped.aiter_raw()])
    assert gzip.decompress(raw) == plain.content
    assert zipped.headers["etag"] != plain.headers["etag"]
    assert "Accept-Encoding" in zipped.headers["vary"]


async def test_stream_page_varies_by_accept(client: httpx.AsyncClient) -> None:
    """A cache must not give the page to a client that wants the raw stream."""
    assert "Accept" in (await client.get("/stream/fraud")).headers["vary"].split(", ")


async def test_file_of_an_old_version_is_not_kept(client: httpx.AsyncClient) -> None:
    """An address from before an upgrade still works, but what it gives must not stay cached."""
    answer = await client.get("/static/000000000000/base.css")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["dashboard.html", "nothing.js", "..%2Fpages.py", "%00"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, name: str) -> None:
    """Only the static files themselves: no template, no source, no file outside."""
    assert (await client.get(f"/static/000000000000/{name}")).status_code == 404
