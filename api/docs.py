"""The API's documentation page: Swagger UI from a package's files, nothing from a CDN."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, Response

from api.edge import headers
from api.problems import NOT_FOUND, Problem

# Swagger UI styles elements at run time, so inline styles are allowed here; scripts are not.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {**headers.PAGE, "Content-Security-Policy": CONTENT_SECURITY_POLICY}
_ASSETS: Final = frozenset({"swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"})
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fraudstream API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""


def routes() -> APIRouter:
    """Make `/docs` and the files it loads."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_HEADERS)

    @router.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    @router.get("/docs/{name}")
    async def asset(name: str) -> FileResponse:
        if name not in _ASSETS:
            raise Problem(NOT_FOUND, f"there is no /docs/{name}")
        return FileResponse(_folder() / name, headers={"Cache-Control": "max-age=86400"})

    return router


@cache
def _folder() -> Path:
    # The package's own code is a framework integration that we have no use for: it is found, not
    # imported, and only its copy of Swagger UI's files is served.
    spec = find_spec("swagger_ui")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package swagger-ui-py, which ships Swagger UI's files, is missing")
    return Path(spec.submodule_search_locations[0]) / "static"
