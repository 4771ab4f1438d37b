"""The answers to transactions taken in, written straight as bytes: the hot path's output."""

import json
import re
from typing import Final, NamedTuple
from urllib.parse import quote

Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """An HTTP answer, as ASGI wants it."""

    status: int
    headers: Headers
    body: bytes


_JSON: Final = (b"content-type", b"application/json")
_NO_STORE: Final = (b"cache-control", b"no-store")
_ACCEPTED: Final = (
    b'{"transaction_id":%b,"status":"accepted","topic":"%b","partition":%d,"offset":%d}'
)
_ACCEPTED_HEAD: Final = (
    b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"location: /transactions/%b"
)
# These characters stand for themselves both in JSON and in a URL's path (RFC 3986, unreserved).
_plain: Final = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII).fullmatch


def accepted(transaction_id: str, topic: bytes, partition: int, offset: int) -> Answer:
    """Say that Kafka has the transaction; `topic` is the topic's name."""
    body = _ACCEPTED % (quoted(transaction_id), topic, partition, offset)
    address = (b"location", location(transaction_id))
    return Answer(202, [_JSON, (b"content-length", b"%d" % len(body)), address], body)


def accepted_written(
    transaction_id: str, topic: bytes, partition: int, offset: int
) -> tuple[bytes, bytes]:
    """Say the same as `accepted`: status line and headers as they are sent, and the body."""
    if _plain(transaction_id):
        name = transaction_id.encode()
        body = _ACCEPTED % (b'"%b"' % name, topic, partition, offset)
        return _ACCEPTED_HEAD % (len(body), name), body
    body = _ACCEPTED % (quoted(transaction_id), topic, partition, offset)
    return _ACCEPTED_HEAD % (len(body), quote(transaction_id, safe="").encode()), body


def decided(
    transaction_id: str, topic: bytes, partition: int, offset: int, verdict: bytes
) -> Answer:
    """Say that Kafka has the transaction and what the detector decided; `verdict` is its JSON."""
    body = (
        b'{"transaction_id":%b,"status":"decided","topic":"%b","partition":%d,"offset":%d,'
        b'"verdict":%b}' % (quoted(transaction_id), topic, partition, offset, verdict)
    )
    answer = json_answer(200, body)
    answer.headers.append((b"content-location", location(transaction_id)))
    return answer


def looked_up(transaction_id: str, verdict: bytes) -> Answer:
    """Say what is known of a transaction; an empty `verdict` stands for one not there yet."""
    if verdict:
        text = b'{"transaction_id":%b,"status":"decided","verdict":%b}'
        answer = json_answer(200, text % (quoted(transaction_id), verdict))
    else:
        text = b'{"transaction_id":%b,"status":"pending"}'
        answer = json_answer(202, text % quoted(transaction_id))
        answer.headers.append((b"retry-after", b"1"))
    answer.headers.append(_NO_STORE)
    return answer


def json_answer(status: int, body: bytes) -> Answer:
    """Answer with a JSON body."""
    return Answer(status, [_JSON, (b"content-length", b"%d" % len(body))], body)


def quoted(transaction_id: str) -> bytes:
    """Write an id as a JSON string."""
    if _plain(transaction_id):
        return b'"%b"' % transaction_id.encode()
    return json.dumps(transaction_id).encode()


def location(transaction_id: str) -> bytes:
    """Write the address of a transaction."""
    plain = transaction_id if _plain(transaction_id) else quote(transaction_id, safe="")
    return b"/transactions/" + plain.encode()
