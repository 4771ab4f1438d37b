"""Behind nginx and Caddy, as deploy/proxy has them: HTTP/2, streams unbuffered, resumed."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.streams.position import FRAUD
from tests.certificates import Authority, Certified
from tests.processes import Programs, programs, until
from tests.streaming import GatewayProcess, gateways, writing
from tests.trust import TRUST
from wire.settings import TopicSettings

DEADLINE_S = 30
SITES = Path(__file__).parents[2] / "deploy" / "proxy"
JSON = {"source": "anna", "target": "ben", "amount": "1"}
NGINX = """\
daemon off;
pid {here}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {here}/body;
    proxy_temp_path {here}/proxy;
    fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi;
    scgi_temp_path {here}/scgi;
    include {here}/site.conf;
}}
"""
CADDY = """\
{{
	admin off
	auto_https disable_redirects
	storage file_system {here}/caddy
}}
"""


def port() -> int:
    """Give a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def replaced(text: str, **by: str) -> str:
    """Replace what a site has to set."""
    for old, new in by.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def nginx(run: Programs, here: Path, own: Certified, gateway: GatewayProcess, at: int) -> None:
    """Start nginx with the site."""
    site = replaced(
        (SITES / "nginx.conf").read_text(),
        **{
            "server 127.0.0.1:8000": f"server 127.0.0.1:{gateway.port}",
            "listen 443 ssl http2;  #": f"listen 127.0.0.1:{at} ssl http2;  #",
            "/etc/ssl/payments.example.com.pem": str(own.certificate),
            "/etc/ssl/payments.example.com.key": str(own.key),
        },
    )
    (here / "site.conf").write_text(site)
    (here / "nginx.conf").write_text(NGINX.format(here=here))
    run.start("/usr/sbin/nginx", "-e", "stderr", "-c", str(here / "nginx.conf"))


def caddy(run: Programs, here: Path, own: Certified, gateway: GatewayProcess, at: int) -> None:
    """Start Caddy with the site, and a certificate, as it can't get one here."""
    site = (SITES / "Caddyfile").read_text()
    tls = f"\ttls {own.certificate} {own.key}\n\treverse_proxy"
    site = replaced(site, **{"\treverse_proxy": tls})
    file = here / "Caddyfile"
    file.write_text(CADDY.format(here=here) + site)
    env = {
        "FRAUDSTREAM_SITE": f"https://:{at}",  # for any name
        "FRAUDSTREAM_GATEWAYS": f"127.0.0.1:{gateway.port}",
        "HOME": str(here),
    }
    run.start("/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", str(file), env=env)


@pytest.fixture(scope="module")
def gateway(shared_settings: TopicSettings) -> Iterator[GatewayProcess]:
    """Run a gateway whose heartbeats never come: what arrives was pushed on by nothing else."""
    with gateways(
        shared_settings,
        stream_heartbeat_seconds=600,
        api_trusted_proxies="127.0.0.1",
        api_allowed_hosts="payments.example.com",
    ) as (process,):
        yield process


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest,
    gateway: GatewayProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator["Proxy"]:
    """Run a proxy in front of it."""
    here = tmp_path_factory.mktemp("proxy")
    here.chmod(0o755)  # nginx's workers are another user when it is started by root
    authority = Authority(here)
    with programs(here) as run:
        at = port()
        request.param(run, here, authority.certify("site"), gateway, at)
        made = Proxy(request.param.__name__, f"https://localhost:{at}", authority)
        trust = made.trust()
        with httpx.Client(base_url=made.url, verify=trust, timeout=DEADLINE_S) as client:
            until(lambda: ready(client), lambda: run.started[0].output)
        yield made


def ready(client: httpx.Client) -> bool:
    """Tell whether the gateway answers through the proxy."""
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


class Proxy:
    """A running proxy."""

    def __init__(self, name: str, url: str, authority: Authority) -> None:
        self.name = name
        self.url = url
        self.authority = authority

    def trust(self) -> ssl.SSLContext:
        """Give a context that trusts its certificate."""
        return ssl.create_default_context(cafile=self.authority.file)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Connect by HTTP/2."""
        limits = httpx.Limits(max_connections=1)  # one, as browsers have for a host
        async with httpx.AsyncClient(
            base_url=self.url, verify=self.trust(), http2=True, limits=limits, timeout=DEADLINE_S
        ) as client:
            yield client


class Stream:
    """A stream read line by line."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self._lines = response.aiter_lines()

    async def event(self) -> str:
        """Wait for the next event's data."""
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "id":
                    self.last_id = value
                elif name == "data":
                    return value
        raise EOFError

    async def position(self) -> None:
        """Wait until the stream has begun."""
        async with asyncio.timeout(DEADLINE_S):
            async for line in self._lines:
                if line.startswith("id: "):
                    self.last_id = line[4:]
                    return
        raise EOFError


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, last_id: str = "", **query: str
) -> AsyncIterator[Stream]:
    """Open the stream of frauds, and wait until it has begun."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with client.stream("GET", "/stream/fraud", headers=headers, params=query) as response:
        assert response.status_code == 200
        assert response.http_version == "HTTP/2"
        stream = Stream(response)
        await stream.position()
        yield stream


async def test_posting(proxy: Proxy) -> None:
    """Transactions go in, and what the gateway says of them comes back as it is."""
    async with proxy.client() as client:
        answer = await client.post("/transactions", json=JSON)
        assert (answer.status_code, answer.http_version) == (202, "HTTP/2")
        assert answer.headers["location"] == f"/transactions/{answer.json()['transaction_id']}"
        lines = b'{"source": "a", "target": "b", "amount": 1}\n' * 500
        kind = {"content-type": "application/x-ndjson"}
        answer = await client.post("/transactions", content=lines, headers=kind)
        assert answer.json()["accepted"] == 500
        answer = await client.post("/transactions", json=JSON | {"metadata": {"a": "b" * 20_000}})
        assert answer.status_code == 413
        assert answer.json()["code"] == "too-large"


async def test_the_name_that_clients_use_arrives(proxy: Proxy) -> None:
    """The gateway on loopback answers to it, as it is told to, and to no other."""
    async with proxy.client() as client:
        own = await client.get("/healthz", headers={"Host": "payments.example.com"})
        other = await client.get("/healthz", headers={"Host": "rebound.example"})
    assert (own.status_code, other.status_code) == (200, 421)


async def test_events_come_one_by_one(
    proxy: Proxy, gateway: GatewayProcess, shared_settings: TopicSettings
) -> None:
    """Each event is here before the next one is made: nothing holds any back."""
    async with (
        proxy.client() as client,
        writing(shared_settings, f"{proxy.name}-1") as writer,
        reading(client) as stream,
    ):
        for number in range(3):
            source = f"{proxy.name}-{number}"
            await writer.write(FRAUD, number, source=source)
            assert source in await stream.event()
        assert stream.response.headers["cache-control"] == "no-store"
    async with httpx.AsyncClient(base_url=gateway.url, verify=TRUST) as direct:
        answer = await direct.head("/stream/fraud")
    assert answer.headers["x-accel-buffering"] == "no"
    # nginx takes it as said to itself, and does not send it on.
    assert ("x-accel-buffering" in stream.response.headers) == (proxy.name != "nginx")


async def test_streams_resume(proxy: Proxy, shared_settings: TopicSettings) -> None:
    """Who comes back with the last id gets what it missed, once."""
    async with proxy.client() as client, writing(shared_settings, f"{proxy.name}-2") as writer:
        async with reading(client) as stream:
            await writer.write(FRAUD, 0, source="before")
            assert '"before"' in await stream.event()
            last_id = stream.last_id
        await writer.write(FRAUD, 1, source="meanwhile")
        async with client.stream(
            "GET", "/stream/fraud", headers={"Last-Event-ID": last_id}
        ) as response:
            assert '"meanwhile"' in await Stream(response).event()


async def test_many_streams_on_one_connection(
    proxy: Proxy, shared_settings: TopicSettings, tmp_path: Path
) -> None:
    """HTTP/2 has no six connections a host: twenty streams at once, on one.

    By curl: httpx has a stream wait for those before it, even when there is something for it.
    """
    trust = ("--cacert", str(proxy.authority.file), "--http2")
    urls = [f"{proxy.url}/stream/fraud?account=everyone&n={number}" for number in range(20)]
    parallel = ("--no-buffer", "--verbose", "--parallel", "--parallel-max", "20")
    with programs(tmp_path) as run:
        async with writing(shared_settings, f"{proxy.name}-3") as writer:
            curl = run.start("/usr/bin/curl", *trust, *parallel, *urls)
            await asyncio.to_thread(until, lambda: curl.output.count("\nid: ") >= 20)
            await writer.write(FRAUD, 2, source="everyone")
            await asyncio.to_thread(until, lambda: curl.output.count('"everyone"') == 20)
        assert curl.output.count("* Connected to ") == 1


async def test_a_gateway_that_goes_ends_its_streams(proxy: Proxy, gateway: GatewayProcess) -> None:
    """The proxy ends a stream with the gateway's, so that its client comes back."""
    async with proxy.client() as client, reading(client) as stream:
        await gateway.stop()
        with pytest.raises((EOFError, httpx.RemoteProtocolError)):
            await stream.event()
    gateway.start()
    await gateway.ready()
