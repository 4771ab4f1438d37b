"""How many streams may be open: a burst of requests is held to it as one after the other is."""

import asyncio

import pytest
from starlette.types import Message

from api.edge.clients import Client
from api.problems import OVERLOADED, Problem
from api.settings import ApiSettings
from api.streams.admission import Admission
from api.streams.catchup import Wish
from api.streams.eventstream import EventStream
from api.streams.hub import Hub
from wire.audit import Audit

SCOPE = {"type": "http", "method": "GET", "path": "/stream/all", "headers": []}


async def test_a_place_is_taken_before_anything_is_sent() -> None:
    """A stream whose first bytes wait for its client has its place: the next one finds none."""
    settings = ApiSettings(kafka_broker_url="127.0.0.1:1", stream_clients=1)
    hub, admission = Hub(settings), Admission(settings)
    client = Client("192.0.2.1", None)
    sent: list[Message] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def send(message: Message) -> None:
        begun.set()
        await go_on.wait()
        sent.append(message)

    async def receive() -> Message:
        await go_on.wait()
        return {"type": "http.disconnect"}

    def opened() -> EventStream:
        return EventStream(hub, admission, Wish("all"), client, Audit())

    first = asyncio.create_task(opened()(SCOPE, receive, send))
    await begun.wait()
    with pytest.raises(Problem) as caught:
        await asyncio.wait_for(opened()(SCOPE, receive, send), 5)
    go_on.set()
    await first
    admission.check(client, None)  # its place is free again

    assert caught.value.kind is OVERLOADED
    assert [message["status"] for message in sent if "status" in message] == [200]
