"""A token endpoint for tests (RFC 6749, 3.2): answers as it is told, notes what it is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from tests.serving import Quiet, serving


@dataclass
class TokenEndpoint:
    """What it answers, and what it was asked last."""

    url: str
    status: int = 200
    body: bytes = b""
    asked: int = 0
    authorization: str = ""
    form: str = ""


@contextmanager
def token_endpoint() -> Iterator[TokenEndpoint]:
    """Run one."""

    class Answering(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.asked += 1
            made.authorization = self.headers["authorization"]
            made.form = self.rfile.read(int(self.headers["content-length"])).decode()
            self.send_response(made.status)
            self.send_header("content-length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

    with serving(Answering) as url:
        made = TokenEndpoint(f"{url}/token")
        yield made
