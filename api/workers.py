"""The other processes behind the same socket, asked at addresses of their own."""

import asyncio
from collections.abc import Iterable, Mapping

import httpx
import structlog

log = structlog.get_logger(__name__)


async def ask(urls: Iterable[str], headers: Mapping[str, str], patience: float) -> list[bytes]:
    """Give the answers of those who answer well.

    Args:
        urls: what to GET, from each.
        headers: to send.
        patience: seconds that each has.
    """
    # Each other's, on loopback: the certificate is for the name that clients know.
    async with httpx.AsyncClient(
        timeout=patience,
        trust_env=False,
        headers=headers,
        verify=False,  # noqa: S501
    ) as client:
        answers = await asyncio.gather(*(_ask(client, url) for url in urls))
    return [answer for answer in answers if answer is not None]


async def _ask(client: httpx.AsyncClient, url: str) -> bytes | None:
    try:
        answer = await client.get(url)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        log.warning("worker left out of metrics", url=url, error=repr(error))
        return None
    return answer.content
