"""Whether a page of ours made a request: a browser sends its cookies along for any page."""

from collections.abc import Mapping
from typing import Final

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing (RFC 9110, 9.2.1)."""


def is_own(scheme: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a request comes from the origin that it goes to.

    By what the browser says, which no page can set: Sec-Fetch-Site, or Origin where the browser is
    older or the page came by plain HTTP. A request with neither is of no browser that says so.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    host = headers.get("host")
    return bool(host) and headers.get("origin") == f"{scheme}://{host}"
