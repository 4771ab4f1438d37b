"""Tokens for Kafka: how an endpoint is asked, and which of its answers are final."""

import asyncio
import base64

import pytest
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from tests.token_endpoint import token_endpoint
from wire.oauth import ClientCredentials, provider
from wire.settings import KafkaSettings, load


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


async def test_a_proxy_that_can_not_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every failure to get a token is: in one line, not by a traceback."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    tokens = ClientCredentials("http://idp.test/token", "client", "secret", None, None)
    with pytest.raises(AuthenticationFailedError, match=r"no token from http://idp.*SOCKS proxy"):
        await tokens.token()


@pytest.mark.parametrize(
    ("given", "written"),
    [({}, b"an id:a+b/c%:d"), ({"kafka_oauth_header_urlencode": True}, b"an+id:a%2Bb%2Fc%25%3Ad")],
    ids=["as Kafka's clients do", "as RFC 6749 says"],
)
async def test_the_client_signs_in_as_the_endpoint_reads_it(
    given: dict[str, bool], written: bytes
) -> None:
    """Endpoints differ in whether they decode id and secret; what is meant is set."""
    with token_endpoint() as endpoint:
        endpoint.body = b'{"access_token":"t"}'
        settings = load(
            KafkaSettings,
            kafka_oauth_token_url=endpoint.url,
            kafka_oauth_client_id="an id",
            kafka_oauth_client_secret="a+b/c%:d",
            **given,
        )
        assert await provider(settings).token() == "t"
        assert endpoint.authorization == f"Basic {base64.b64encode(written).decode()}"


@pytest.mark.parametrize("life", ['"nan"', '"inf"', "-1"])
async def test_a_token_whose_life_is_no_time_is_none(life: str) -> None:
    """One that ends at no time that can be told would never be renewed."""
    with token_endpoint() as endpoint:
        endpoint.body = b'{"access_token":"t","expires_in":%b}' % life.encode()
        tokens = ClientCredentials(endpoint.url, "client", "secret", None, None)
        with pytest.raises(KafkaConnectionError, match="and no token"):
            await tokens.token()
