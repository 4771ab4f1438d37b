"""Request heads that have come before, so that what they say is known without parsing them.

A client sends the same head again and again; only the body's length changes now and then. To
parse it takes longer than to validate what comes with it. It is looked up by its very bytes, all of
them, and the parser begins each request afresh: it could say nothing else than it did.

What is known is what a head says, not what may be done with it: who asks is asked each time. And
how long it takes to find one tells nothing of others: Python's hashes are keyed.
"""

from typing import Final, NamedTuple

from starlette.types import Scope

from api.exchange import Take

MOST_HEADS: Final = 1_024
"""Heads that are known at most; then all are forgotten."""
MOST_BYTES: Final = 1_024
"""The largest head that is remembered."""
_END: Final = b"\r\n\r\n"
_SAID: Final = ("type", "method", "path", "raw_path", "query_string", "http_version", "headers")
"""What a head alone says of a request's scope."""


class Head(NamedTuple):
    """What is known of a head."""

    scope: Scope
    """The scope of its requests as far as the head says, for all of them."""
    body_bytes: int
    take: Take
    """Who takes such requests, if they come whole."""


class Heads:
    """The heads of whole requests that were taken."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """Give what is known of the head of one whole request, and its body."""
        begin = data.find(_END) + len(_END)
        head = self._known.get(data[:begin])
        if head is None or len(data) - begin != head.body_bytes:
            return None
        return head, data[begin:]

    def note(self, data: bytes, scope: Scope, body_bytes: int, take: Take) -> None:
        """Remember the head of a request that was parsed, if it was all of this data.

        If so, what is behind the head is its body as it is, and as long as the head says.
        """
        begin = data.find(_END) + len(_END)
        if begin > MOST_BYTES or len(data) - begin != body_bytes:
            return
        if len(self._known) >= MOST_HEADS:
            self._known.clear()
        said = {key: scope[key] for key in _SAID}
        self._known[data[:begin]] = Head(said, body_bytes, take)
