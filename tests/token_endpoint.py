"""A token endpoint for tests (RFC 6749, 3.2): answers as it is told, notes what it is asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.asked += 1
            made.authorization = self.headers["authorization"]
            made.form = self.rfile.read(int(self.headers["content-length"])).decode()
            self.send_response(made.status)
            self.send_header("content-length", str(len(made.body)))
            self.end_headers()
            self.wfile.write(made.body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = TokenEndpoint(f"http://127.0.0.1:{server.server_port}/token")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()
