"""`GET /problems` and `/problems/CODE`: what each kind of problem means, and what to do about it.

A problem's `type` leads here (RFC 9457, section 3.1.1): to a page, or the same as JSON. Links on
the page are relative, for a proxy may serve the gateway below a path of its own.
"""

import re
from functools import cache
from html import escape
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import pages
from api.negotiation import wants_json
from api.pages import Asset
from api.problems import KINDS, NOT_FOUND, Kind, Problem

_KINDS: Final = {kind.code: kind for kind in sorted(KINDS, key=lambda kind: kind.status)}
_AGAIN: Final = {True: "yes", False: "no"}
_QUOTED: Final = re.compile(r"`(.+?)`")


class _Forms(NamedTuple):
    """The same in two forms."""

    page: Asset
    json: Asset

    def respond(self, request: Request) -> Response:
        form = self.json if wants_json(request.headers.get("accept", "")) else self.page
        kept = pages.REVALIDATE
        return form.respond(request, cache_control=kept, vary="Accept, Accept-Encoding")


def routes() -> APIRouter:
    """Make `/problems` and `/problems/CODE`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/problems")
    async def every(request: Request) -> Response:
        return _all().respond(request)

    @router.get("/problems/{code}")
    async def one(request: Request, code: str) -> Response:
        if code not in _KINDS:
            raise Problem(NOT_FOUND, f"there is no kind of problem {code}")
        return _one(code).respond(request)

    return router


@cache
def _all() -> _Forms:
    rows = "\n".join(
        f'<tr><th scope="row"><a href="problems/{kind.code}"><code>{kind.code}</code></a> '
        f"{escape(kind.title)}</th><td>{kind.status}</td><td>{_AGAIN[kind.retriable]}</td></tr>"
        for kind in _KINDS.values()
    )
    page = pages.written("problems", root="./", rows=rows)
    return _forms(page, {"problems": [_facts(kind) for kind in _KINDS.values()]})


@cache
def _one(code: str) -> _Forms:
    kind = _KINDS[code]
    page = pages.written(
        "problem",
        root="../",
        code=kind.code,
        title=escape(kind.title),
        status=str(kind.status),
        retriable=_AGAIN[kind.retriable],
        meaning=_marked_up(kind.meaning),
        advice=_marked_up(kind.advice),
    )
    return _forms(page, _facts(kind))


def _forms(page: str, facts: dict[str, Any]) -> _Forms:
    return _Forms(
        Asset(page.encode(), "text/html; charset=utf-8"),
        Asset(msgspec.json.encode(facts), "application/json"),
    )


def _facts(kind: Kind) -> dict[str, Any]:
    return {
        "type": kind.type,
        "code": kind.code,
        "status": kind.status,
        "title": kind.title,
        "retriable": kind.retriable,
        "meaning": kind.meaning,
        "advice": kind.advice,
    }


def _marked_up(text: str) -> str:
    return _QUOTED.sub(r"<code>\1</code>", escape(text, quote=False))
