"""The pages: the dashboard, the live page of a stream, and the files they are made of.

Everything a page needs is in this package, is read once, and is served from memory. Static files
live under a digest of all of them (`/static/<digest>/<name>`), so that they can be cached for
good, and modules can import each other by relative name.
"""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Template
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.edge import headers
from api.negotiation import takes_gzip
from api.problems import NOT_FOUND, Problem
from api.streams.position import STREAMS

DIGEST_LENGTH: Final = 12
MEDIA_TYPES: Final[Mapping[str, str]] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_SCRIPTS: Final = frozenset({"dashboard.js", "sign-in.js", "stream.js", "theme-early.js"})
"""What pages load themselves; the rest are modules that those import."""
FOR_GOOD: Final = "public, max-age=31536000, immutable"
REVALIDATE: Final = "no-cache"

# No inline script or style, nothing from elsewhere, and no way to turn a string into markup:
# what arrives in a verdict was written by others.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    **headers.PAGE,
}


class Asset:
    """Bytes that do not change while the process lives, with their ETag and gzip form."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self.content = content
        self.zipped = gzip.compress(content, mtime=0)
        self.media_type = media_type
        self.tag = hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH]

    def respond(self, request: Request, *, cache_control: str, vary: str) -> Response:
        """Answer with the content, or with 304 where the client has it (RFC 9110, 13.1.2)."""
        zipped = takes_gzip(request.headers.get("accept-encoding", ""))
        etag = f'"{self.tag}-gzip"' if zipped else f'"{self.tag}"'
        given = {**SECURITY_HEADERS, "Cache-Control": cache_control, "ETag": etag, "Vary": vary}
        known = request.headers.get("if-none-match", "")
        if etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=given)
        if zipped:
            given["Content-Encoding"] = "gzip"
        return Response(
            self.zipped if zipped else self.content, headers=given, media_type=self.media_type
        )


def routes() -> APIRouter:
    """Make the dashboard, `GET /`, and `/static`."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/", dashboard, response_model=None)
    router.add_api_route("/static/{digest}/{name}", static, response_model=None)
    return router


async def dashboard(request: Request) -> Response:
    """Serve the dashboard."""
    return _page("dashboard").respond(request, cache_control=REVALIDATE, vary="Accept-Encoding")


def stream_page(request: Request, name: str) -> Response:
    """Serve the live page of one stream; the raw stream is at the same address."""
    page = _page("stream", name)
    return page.respond(request, cache_control=REVALIDATE, vary="Accept, Accept-Encoding")


async def static(request: Request, digest: str, name: str) -> Response:
    """Serve one static file.

    A digest of another version (a page opened before an upgrade) gets this version's file, but
    may not keep it.

    Raises:
        Problem: there is no such file.
    """
    asset = _assets().get(name)
    if asset is None:
        raise Problem(NOT_FOUND, f"there is no static file {name}")
    kept = FOR_GOOD if digest == _digest() else REVALIDATE
    return asset.respond(request, cache_control=kept, vary="Accept-Encoding")


@cache
def _files() -> Mapping[str, bytes]:
    folder = resources.files("api") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@cache
def _assets() -> Mapping[str, Asset]:
    return {
        name: Asset(content, MEDIA_TYPES[kind])
        for name, content in _files().items()
        if (kind := name.rpartition(".")[2]) in MEDIA_TYPES
    }


@cache
def _digest() -> str:
    whole = hashlib.sha256()
    for name, asset in sorted(_assets().items()):
        whole.update(f"{name}:{asset.tag}\n".encode())
    return whole.hexdigest()[:DIGEST_LENGTH]


def written(template: str, *, root: str = "/", **values: str) -> str:
    """Write a page; what is put into it must be escaped already.

    Args:
        template: its name.
        root: leads from the page to where all addresses begin.
        values: what is put in.
    """
    values |= {"root": root, "static": f"{root}static/{_digest()}"}
    return Template(_files()[f"{template}.html"].decode()).substitute(values)


@cache
def _page(template: str, name: str = "") -> Asset:
    values = {
        "static": f"/static/{_digest()}",
        "modules": _preloads(),
        "name": name,
        "title": f"{name.capitalize()} verdicts",
        **{
            f"current_{page}": 'aria-current="page"' if page == name else ""
            for page in ("", *STREAMS)
        },
    }
    header = Template(_files()["header.html"].decode()).substitute(values)
    body = Template(_files()[f"{template}.html"].decode()).substitute(values, header=header)
    return Asset(body.encode(), "text/html; charset=utf-8")


def _preloads() -> str:
    """Link every module ahead, so that imports do not wait for one another."""
    return "\n".join(
        f'<link rel="modulepreload" href="/static/{_digest()}/{name}">'
        for name in sorted(_assets())
        if name.endswith(".js") and name not in _SCRIPTS
    )
