"""What the gateway can answer instead of what was wanted is told to those who call it."""

import re
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from api.app import create
from api.problems import KINDS, install
from api.settings import ApiSettings

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_code() -> None:
    """Each code stands in the table, with its status, and no other does."""
    rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", README.read_text(), re.MULTILINE)
    listed = {
        (int(status), code) for status, codes in rows for code in re.findall(r"`(.+?)`", codes)
    }
    assert listed == {(kind.status, kind.code) for kind in KINDS}


def test_every_kind_says_what_it_means_and_what_to_do() -> None:
    """In sentences of its own, for no two are the same."""
    texts = [text for kind in KINDS for text in (kind.meaning, kind.advice)]
    assert len(set(texts)) == 2 * len({kind.code for kind in KINDS}) == 2 * len(KINDS)
    for text in texts:
        assert re.fullmatch(r"[A-Z`].+\.", text), text
        assert text.count("`") % 2 == 0, text


def test_what_the_kinds_name_is_there() -> None:
    """Settings, addresses, parameters, fields and members of problems are called as they are."""
    document = create(ApiSettings()).openapi()
    schemas = document["components"]["schemas"]
    streams = document["paths"]["/stream/all"]["get"]["parameters"]
    there = {
        *(name.upper() for name in ApiSettings.model_fields),
        *document["paths"],
        *("/docs", "/sign-in"),  # pages are not in it
        *schemas["Problem"]["properties"],
        *schemas["PostedTransaction"]["properties"],
        *(parameter["name"] for parameter in streams),
        *("duplicates", "earliest", "id", "localhost"),
    }
    named = {
        name
        for kind in KINDS
        for name in re.findall("`(.+?)`", f"{kind.meaning} {kind.advice}")
        if re.fullmatch("/.+|[A-Z_]+|[a-z_]+", name)
    }
    assert len(named) > 20
    assert named - there == set()


@pytest.mark.parametrize("status", [400, 404, 405, 406, 413, 418])
async def test_the_frameworks_own_errors_have_a_listed_code(status: int) -> None:
    """Whatever FastAPI or Starlette raise is a problem of a kind that the documents name."""
    app = FastAPI()
    install(app)

    @app.get("/")
    def refuse() -> None:
        raise HTTPException(status)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        answer = await client.get("/")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert problem["code"] in {kind.code for kind in KINDS}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/transactions", "POST"),
        ("/transactions/t-1", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/stream/fraud", "GET, HEAD, OPTIONS"),
        ("/sign-in", "GET, HEAD, POST"),
    ],
)
async def test_a_method_that_is_not_taken_is_told_which_are(path: str, allowed: str) -> None:
    """All that the address takes, of whichever route they are."""
    given = {"api_jwt_jwks_url": "https://idp.example", "api_jwt_issuer": "i"}
    asks = path == "/sign-in"  # it is there only where someone is asked who they are
    app = create(ApiSettings(**given, api_jwt_audience="a") if asks else ApiSettings())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        answer = await client.delete(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
