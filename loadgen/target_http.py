"""The gateway as a target, by httpx over aiohttp.

Requests go straight to httpx's transport: cookies, redirects, authentication and a log line for
each request, which its client adds, are of no use here and cost as much CPU as the request
itself (measured at full speed: 200 us a request by the client, 95 us by the transport).
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import httpx
import msgspec
import structlog
from httpx_aiohttp import AiohttpTransport

from loadgen.errors import TargetDownError
from loadgen.targets import ACCEPTED, RETRY_AFTER_S, Answer, Record

log = structlog.get_logger(__name__)
KEEP_ALIVE_S: Final = 4.0
"""Idle connections are closed before a server with the usual 5 s would close them on us."""
READY_PAUSE_S: Final = 0.25
LOG_EVERY_S: Final = 5.0
LONGEST_RETRY_AFTER_S: Final = 5.0
_ALL_ACCEPTED: Final = frozenset({200, 202})
_MULTI_STATUS: Final = 207


class _Result(msgspec.Struct):
    """What became of one record of a batch."""

    status: int | str


class _Results(msgspec.Struct):
    results: list[_Result]


_results = msgspec.json.Decoder(_Results)


class HttpTarget:
    """POST /transactions of one gateway."""

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        timeout: float,
        batched: bool,
        trust: ssl.SSLContext | bool = True,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._base = url
        self._url = httpx.URL(url + "/transactions")
        kind = b"application/x-ndjson" if batched else b"application/json"
        self._headers = httpx.Headers([(b"host", self._url.netloc), (b"content-type", kind)])
        self._headers.update(headers)
        self._extensions = {"timeout": httpx.Timeout(timeout).as_dict()}
        self._transport = AiohttpTransport(
            verify=trust,
            limits=httpx.Limits(max_connections=connections, keepalive_expiry=KEEP_ALIVE_S),
            trust_env=False,
        )
        self._one_accepted = Answer((ACCEPTED,))

    async def ready(self, patience: float) -> None:
        """Wait until /readyz answers, and with no server error."""
        loop = asyncio.get_running_loop()
        deadline, next_line = loop.time() + patience, loop.time()
        while (problem := await self._problem()) is not None:
            if loop.time() + READY_PAUSE_S > deadline:
                raise TargetDownError(f"{self._base} is not ready: {problem}")
            if loop.time() >= next_line:
                log.warning("waiting for the gateway", url=self._base, cause=problem)
                next_line = loop.time() + LOG_EVERY_S
            await asyncio.sleep(READY_PAUSE_S)

    async def send(self, records: Sequence[Record]) -> Answer:
        """POST one record as JSON, or several as NDJSON."""
        if len(records) == 1:
            body = records[0].value
        else:
            body = b"\n".join([record.value for record in records])
        # A stream of known bytes spares working out content headers that aiohttp makes anyway.
        request = httpx.Request(
            "POST",
            self._url,
            headers=self._headers,
            stream=httpx.ByteStream(body),
            extensions=self._extensions,
        )
        request.read()
        try:
            response = await self._transport.handle_async_request(request)
            content = await _content(response)
        except (httpx.HTTPError, OSError) as error:
            return Answer((_kind(error),) * len(records))
        if response.status_code in _ALL_ACCEPTED:
            return self._one_accepted if len(records) == 1 else Answer((ACCEPTED,) * len(records))
        return _answer(response, content, len(records))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _problem(self) -> str | None:
        request = httpx.Request("GET", self._base + "/readyz", extensions=self._extensions)
        try:
            response = await self._transport.handle_async_request(request)
            await response.aread()
        except (httpx.HTTPError, OSError) as error:
            return str(error) or type(error).__name__
        return f"it answers {response.status_code}" if response.is_server_error else None


async def _content(response: httpx.Response) -> bytes:
    """Read a response to its end, which gives its connection back."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - what async transports return
    content = b"".join([chunk async for chunk in stream])
    await stream.aclose()
    return content


def _answer(response: httpx.Response, content: bytes, count: int) -> Answer:
    if response.status_code == _MULTI_STATUS:
        return Answer(_codes_of(content))
    return Answer((str(response.status_code),) * count, _retry_after(response))


def _codes_of(body: bytes) -> list[str]:
    results = _results.decode(body).results
    return [
        ACCEPTED if each.status in (ACCEPTED, *_ALL_ACCEPTED) else str(each.status)
        for each in results
    ]


def _retry_after(response: httpx.Response) -> float:
    text: Any = response.headers.get("retry-after", "")
    try:
        return min(max(float(text), 0.0), LONGEST_RETRY_AFTER_S)
    except ValueError:  # the HTTP-date form, or none
        return RETRY_AFTER_S


def _kind(error: Exception) -> str:
    """Name a failure by its cause: httpx-aiohttp's own mapping calls a reset a timeout."""
    return type(error.__cause__ or error).__name__
