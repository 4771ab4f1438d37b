"""Is the stack ready? One transaction's way from POST to verdict tells."""

import asyncio
from http import HTTPStatus
from typing import Final

import httpx

ASK_EVERY_S: Final = 0.05
VERDICT_WAIT_S: Final = 5
# A transaction like any other, told apart by its accounts: the smallest amount, so that the
# shipped rules let it pass.
PROBE: Final = {
    "source": "fraudstream.probe",
    "target": "fraudstream.probe",
    "amount": "0.01",
    "metadata": {"purpose": "round trip at start"},
}


async def round_trip(url: str, credential: str | None = None) -> None:
    """Wait until a transaction posted at the gateway comes back with its verdict.

    It tries for as long as it takes: put a timeout round it.
    """
    # A certificate is not checked: it is our own child, asked by its address, not by its name.
    async with httpx.AsyncClient(
        base_url=url,
        timeout=VERDICT_WAIT_S + 5,
        trust_env=False,
        headers={"Authorization": f"Bearer {credential}"} if credential else None,
        verify=False,  # noqa: S501
    ) as client:
        # Another process has no event to wait for: ASYNC110 does not hold here.
        while not await _once(client):  # noqa: ASYNC110
            await asyncio.sleep(ASK_EVERY_S)


async def _once(client: httpx.AsyncClient) -> bool:
    try:
        if (await client.get("/readyz")).status_code != HTTPStatus.OK:
            return False
        headers = {"Prefer": f"wait={VERDICT_WAIT_S}"}
        answer = await client.post("/transactions", json=PROBE, headers=headers)
    except httpx.TransportError:
        return False
    return answer.status_code == HTTPStatus.OK
