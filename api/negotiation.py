"""Which form of an answer a client would rather have."""

import re
from typing import Final

_WEIGHT: Final = re.compile(r"(?:^|;)\s*q=(\d(?:\.\d{0,3})?)\s*(?:;|$)", re.ASCII)


def wants_page(accept: str) -> bool:
    """Tell whether a client would rather have HTML than the raw stream (RFC 9110, 12.5.1).

    Only one that names text/html does: `*/*` is what tools send.
    """
    quality = {"text/html": 0.0, "text/event-stream": 0.0}
    for part in accept.lower().split(","):
        media_type, _, parameters = part.partition(";")
        if (media_type := media_type.strip()) in quality:
            weight = _WEIGHT.search(parameters)
            quality[media_type] = float(weight[1]) if weight else 1.0
    return quality["text/html"] > quality["text/event-stream"]
