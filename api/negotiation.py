"""Which form of an answer a client would rather have."""

import re
from typing import Final

_WEIGHT: Final = re.compile(r"(?:^|;)\s*q=(\d(?:\.\d{0,3})?)\s*(?:;|$)", re.ASCII)


def wants_page(accept: str) -> bool:
    """Tell whether a client would rather have HTML than the raw stream (RFC 9110, 12.5.1).

    Only one that names text/html does: `*/*` is what tools send.
    """
    weights = _weights(accept)
    return weights.get("text/html", 0.0) > weights.get("text/event-stream", 0.0)


def wants_json(accept: str) -> bool:
    """Tell whether a client would rather have JSON than the page of the same.

    Only one that names application/json does: what `*/*` is for may be read by a human.
    """
    weights = _weights(accept)
    return weights.get("application/json", 0.0) > weights.get("text/html", 0.0)


def takes_gzip(accept_encoding: str) -> bool:
    """Tell whether a client takes gzip (RFC 9110, 12.5.3): it names it, not at 0."""
    return _weights(accept_encoding).get("gzip", 0.0) > 0


def _weights(field: str) -> dict[str, float]:
    """Read what an Accept header names, and how much of it each is worth."""
    weights = {}
    for part in field.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = _WEIGHT.search(parameters)
        weights[name.strip()] = float(weight[1]) if weight else 1.0
    return weights
