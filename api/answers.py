"""The answers to a transaction taken in, written straight as bytes: the hot path's output."""

import json
import re
from typing import Final
from urllib.parse import quote

Headers = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_NO_STORE: Final = (b"cache-control", b"no-store")
# These characters stand for themselves both in JSON and in a URL's path (RFC 3986, unreserved).
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)


def accepted(
    transaction_id: str, topic: bytes, partition: int, offset: int
) -> tuple[Headers, bytes]:
    """Say that Kafka has the transaction; `topic` is the topic's name."""
    quoted, path = _written(transaction_id)
    body = b'{"transaction_id":%b,"status":"accepted","topic":"%b","partition":%d,"offset":%d}' % (
        quoted,
        topic,
        partition,
        offset,
    )
    return [*_headers(body), (b"location", b"/transactions/" + path)], body


def decided(
    transaction_id: str, topic: bytes, partition: int, offset: int, verdict: bytes
) -> tuple[Headers, bytes]:
    """Say what the detector decided; `verdict` is its JSON."""
    quoted, path = _written(transaction_id)
    body = (
        b'{"transaction_id":%b,"status":"decided","topic":"%b","partition":%d,"offset":%d,'
        b'"verdict":%b}' % (quoted, topic, partition, offset, verdict)
    )
    return [*_headers(body), (b"location", b"/transactions/" + path)], body


def _headers(body: bytes) -> Headers:
    return [_JSON, _NO_STORE, (b"content-length", b"%d" % len(body))]


def _written(transaction_id: str) -> tuple[bytes, bytes]:
    if _PLAIN.fullmatch(transaction_id):
        plain = transaction_id.encode()
        return b'"%b"' % plain, plain
    return json.dumps(transaction_id).encode(), quote(transaction_id, safe="").encode()
