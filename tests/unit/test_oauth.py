"""Tokens for Kafka: which answers of a token endpoint are final."""

import asyncio

import pytest
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from wire.oauth import ClientCredentials


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationFailedError),
        (429, KafkaConnectionError),
        (503, KafkaConnectionError),
    ],
)
async def test_only_a_refusal_of_the_client_is_final(status: int, error: type[Exception]) -> None:
    """An endpoint that is asked too often, or is down, is asked again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    tokens = ClientCredentials(f"http://{host}:{port}", "client", "secret", None, None)
    try:
        with pytest.raises(error, match=str(status)):
            await tokens.token()
    finally:
        server.close()
        await server.wait_closed()
