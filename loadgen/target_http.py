"""The gateway as a target, by httpx over aiohttp.

The load takes a share of the machine that it measures, so a request must cost little. Requests go
straight to httpx's transport: cookies, redirects, authentication and a log line for each request,
which its client adds, are of no use here and cost as much CPU as the request itself. What all
requests say alike is said once, in aiohttp's session; one timer keeps the deadlines of all of them;
and what is accepted is read where that is cheapest.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

import aiohttp
import httpx
import msgspec
import structlog
from httpx_aiohttp import AiohttpTransport

from loadgen.deadlines import Deadlines
from loadgen.errors import TargetDownError
from loadgen.targets import ACCEPTED, RETRY_AFTER_S, Answer, Record

log = structlog.get_logger(__name__)
KEEP_ALIVE_S: Final = 4.0
"""Idle connections are closed before a server with the usual 5 s would close them on us."""
READY_PAUSE_S: Final = 0.25
LOG_EVERY_S: Final = 5.0
LONGEST_RETRY_AFTER_S: Final = 5.0
"""A server that asks for more is asked again after so long: the run would end meanwhile."""
_ALL_ACCEPTED: Final = frozenset({200, 202})
_MULTI_STATUS: Final = 207
# What is no HTTP at all, httpx-aiohttp lets through as aiohttp says it.
_FAILURES: Final = (httpx.HTTPError, aiohttp.ClientError, OSError)


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
        self._connections = connections
        kind = "application/x-ndjson" if batched else "application/json"
        self._headers = {"content-type": kind, **headers}
        self._transport = AiohttpTransport(verify=trust, trust_env=False, client=self._session)
        self._timeout = timeout
        self._deadlines = Deadlines(timeout)
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
        waiting = self._deadlines.begin()
        try:
            return await self._post(body, len(records))
        except _FAILURES as error:
            return Answer((_kind(error),) * len(records))
        except asyncio.CancelledError:
            if not self._deadlines.is_cause(waiting):
                raise
            return Answer((TimeoutError.__name__,) * len(records))
        finally:
            self._deadlines.end(waiting)

    async def close(self) -> None:
        """Close the connections."""
        self._deadlines.close()
        await self._transport.aclose()

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=self._connections,
            keepalive_timeout=KEEP_ALIVE_S,
            ssl=self._transport.ssl_context,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_read_if_accepted,),
        )

    async def _post(self, body: bytes, count: int) -> Answer:
        # A stream of known bytes spares working out content headers that aiohttp makes anyway.
        request = httpx.Request("POST", self._url, stream=httpx.ByteStream(body))
        request.read()
        response = await self._transport.handle_async_request(request)
        if response.status_code in _ALL_ACCEPTED:
            return self._one_accepted if count == 1 else Answer((ACCEPTED,) * count)
        return _answer(response, await _content(response), count)

    async def _problem(self) -> str | None:
        request = httpx.Request("GET", self._base + "/readyz")
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._transport.handle_async_request(request)
                await response.aread()
        except _FAILURES as error:
            return str(error) or type(error).__name__
        return f"it answers {response.status_code}" if response.is_server_error else None


async def _read_if_accepted(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Read a body whose status says all, which gives the connection back.

    Through the layers above, that would cost a fifth of the request.
    """
    response = await handler(request)
    if response.status in _ALL_ACCEPTED:
        await response.read()
    return response


async def _content(response: httpx.Response) -> bytes:
    """Read a response to its end, which gives its connection back."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101 - what async transports return
    content = b"".join([chunk async for chunk in stream])
    await stream.aclose()
    return content


def _answer(response: httpx.Response, content: bytes, count: int) -> Answer:
    if response.status_code == _MULTI_STATUS:
        return Answer(_codes_of(content, count))
    return Answer((str(response.status_code),) * count, _retry_after(response))


def _codes_of(body: bytes, count: int) -> list[str]:
    try:
        results = _results.decode(body).results
    except (msgspec.DecodeError, UnicodeDecodeError):
        results = []
    if len(results) != count:  # it does not say what became of which
        return [str(_MULTI_STATUS)] * count
    return [
        ACCEPTED if each.status in (ACCEPTED, *_ALL_ACCEPTED) else str(each.status)
        for each in results
    ]


def _retry_after(response: httpx.Response) -> float:
    """Read Retry-After (RFC 9110, 10.2.3): whole seconds, or a date by the server's own clock."""
    text: str = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        at, now = (_moment(each) for each in (text, response.headers.get("date", "")))
    except (ValueError, OverflowError):  # none, or nothing that can be read
        return RETRY_AFTER_S
    return min(max((at - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


def _moment(text: str) -> datetime:
    moment = parsedate_to_datetime(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _kind(error: Exception) -> str:
    """Name a failure by its cause: httpx-aiohttp's own mapping calls a reset a timeout."""
    return type(error.__cause__ or error).__name__
